//! A plain hyper server with a home page and the webhook in front of it.
//!
//! `PORT` is where it listens (3000; 0 picks one) and `WEBHOOK_KEY` the secret in the webhook's
//! URL. What it grants is kept in memory, and so is the record of it: both end with the process.
//! The axum example is the one that remembers.

use std::{convert::Infallible, env, error::Error, io, pin::pin, sync::Mutex, time::Duration};

use hyper::{Request, Response, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, time::timeout};
use tower::{Layer, service_fn};
use tower_firstpromoter::{
    Access, Outcome, Webhook,
    event::{Fulfilment, Unit},
    fulfil_fn,
    once::MemoryStore,
};

static GRANTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = env::var("WEBHOOK_KEY").unwrap_or_else(|_| "a-key-for-development".to_owned());
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let webhook =
        Webhook::new(fulfil_fn(grant), Access::query("key", &key)).once(MemoryStore::new(100_000));
    let app = webhook.clone().at("/webhooks/firstpromoter").layer(service_fn(home));
    let app = TowerToHyperService::new(app);

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let stop = stop_signal()?;
    let mut lines = format!("listening on http://{}\n", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        lines += &format!("WEBHOOK_KEY is not set, so the key is: {key}\n");
    }
    print!("{lines}"); // all at once: whoever waits for the first line may then hang up

    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()); // ends connections that never finish a head
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    eprintln!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let connection = server.serve_connection(TokioIo::new(stream), app.clone()).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection broke: {error}");
            }
        });
    }
    drop(listener);
    timeout(Duration::from_secs(15), async {
        connections.shutdown().await; // the senders get their answers
        webhook.close().await; // grants that took longer than an answer get to their end
    })
    .await?;
    Ok(())
}

async fn home(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let grants = GRANTS.lock().expect("nothing panics while it is held");
    Ok(Response::new(format!("{} rewards were granted.\n{}", grants.len(), grants.concat())))
}

async fn grant(fulfilment: Fulfilment) -> Result<Outcome, String> {
    let Fulfilment { amount, unit, promoter, .. } = fulfilment;
    let (Unit::FreeMonths | Unit::Credits | Unit::Points) = unit else {
        return Ok(Outcome::Pending);
    };
    if !amount.is_positive() {
        return Err(format!("cannot grant {amount} {unit}"));
    }
    let grant = format!("{amount} {unit} to promoter {}\n", promoter.id);
    GRANTS.lock().expect("nothing panics while it is held").push(grant);
    Ok(Outcome::Fulfilled)
}

/// Resolves on SIGINT or SIGTERM, which are listened for from this call on.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async { tokio::signal::ctrl_c().await.expect("the signal can be listened for") })
}
