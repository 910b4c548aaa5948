//! Deliveries over loopback HTTP with keep-alive: requests a second, and how long the slowest take.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    Result,
    bounds::Bounds,
    payload,
    peers::{PATH, SECRET},
    server::Server,
};

const SERVERS: [&str; 4] = ["by hand", "ours", "ours, memory store", "axum Json<T>"];
const CONNECTIONS: usize = 16;

/// The servers take turns, so that whatever else the machine does meets all of them.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(700);

/// How much of a difference is none, in time over sockets on a machine that does other things, too.
const NOISE: f64 = 1.05;

pub fn report(bounds: &mut Bounds) -> Result<()> {
    let servers: Vec<Server> = SERVERS.into_iter().map(Server::start).collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = vec![Vec::new(); SERVERS.len()];
    // More than the memory store remembers, so that each is new when its turn comes again.
    let deliveries: Vec<Bytes> = (0..2_000).map(|n| payload::delivery(1_000_000 + n)).collect();
    for round in 0..=ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            let result = runtime.block_on(load(server.address, &deliveries))?;
            // The first is the warm-up.
            if round > 0 {
                rounds.push(result);
            }
        }
    }

    println!("## Over HTTP\n");
    println!(
        "{CONNECTIONS} connections with keep-alive, one thread each for server and client; medians \
         of {ROUNDS} rounds in turn.\n"
    );
    println!("| | requests/s | × by hand | p50, µs | p99, µs | p99, × by hand |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, rounds_of_it) in SERVERS.iter().zip(&rounds) {
        let of = |what: fn(&Round) -> f64| median(rounds_of_it.iter().map(what));
        println!(
            "| {name} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
            of(|round| round.per_second),
            paired(rounds_of_it, &rounds[0], |round| round.per_second),
            of(|round| round.p50),
            of(|round| round.p99),
            paired(rounds_of_it, &rounds[0], |round| round.p99),
        );
    }
    println!();
    let fewer = paired(&rounds[0], &rounds[1], |round| round.per_second);
    bounds.expect("requests a second by hand, × ours", fewer, NOISE);
    let worse = paired(&rounds[1], &rounds[0], |round| round.p99);
    bounds.expect("p99, × by hand", worse, NOISE);
    println!();
    Ok(())
}

#[derive(Clone)]
struct Round {
    per_second: f64,
    /// In microseconds.
    p50: f64,
    p99: f64,
}

/// The median of the rounds' ratios: two rounds next to each other met the same machine.
fn paired(these: &[Round], those: &[Round], what: fn(&Round) -> f64) -> f64 {
    median(these.iter().zip(those).map(|(this, that)| what(this) / what(that)))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn load(address: SocketAddr, deliveries: &[Bytes]) -> Result<Round> {
    let mut connections = JoinSet::new();
    let start = Instant::now();
    for number in 0..CONNECTIONS {
        let deliveries = deliveries.to_vec();
        connections.spawn(async move {
            let mut sender = connect(address).await.expect("a connection");
            let mut times = Vec::new();
            // Each starts elsewhere, so that no two send the same at once.
            let from = number * deliveries.len() / CONNECTIONS;
            for delivery in deliveries.iter().cycle().skip(from) {
                if start.elapsed() > ROUND {
                    break;
                }
                let sent = Instant::now();
                deliver(&mut sender, delivery.clone()).await.expect("an answer");
                times.push(sent.elapsed().as_secs_f64() * 1_000_000.0);
            }
            times
        });
    }
    let mut times = connections.join_all().await.concat();
    let elapsed = start.elapsed();
    times.sort_by(f64::total_cmp);
    Ok(Round {
        per_second: times.len() as f64 / elapsed.as_secs_f64(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    })
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn deliver(sender: &mut SendRequest<Full<Bytes>>, delivery: Bytes) -> Result<()> {
    let request = http::Request::post(format!("{PATH}?key={SECRET}"))
        .header("host", "example.com")
        .header("content-type", "application/json")
        .body(Full::new(delivery))?;
    let answer = sender.send_request(request).await?;
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await?;
    Ok(())
}
