//! A server in a process of its own.

use std::{
    convert::Infallible,
    env,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use axum::Router;
use http::Response;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};

use crate::{Result, peers};

fn application(which: &str) -> Result<Router> {
    Ok(match which {
        "ours" => peers::as_router_layer(),
        "ours, memory store" => peers::once_as_router_layer(),
        "axum Json<T>" => peers::plain_axum(),
        "by hand" => peers::by_hand(),
        "patient" => peers::application().layer(peers::patient()),
        "patient by hand" => peers::patient_by_hand(),
        _ => return Err(format!("nothing to serve is called {which}").into()),
    })
}

/// Serves on one thread, says where, and ends with its standard input.
pub fn serve(which: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        // When whoever started it is gone, so is its end of the pipe.
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
        match which {
            "patient on hyper alone" => serve_by_hyper(listener).await,
            _ => Ok(axum::serve(listener, application(which)?).await?),
        }
    })
}

async fn serve_by_hyper(listener: TcpListener) -> Result<()> {
    let home = service_fn(async |_| Ok::<_, Infallible>(Response::new(peers::HOME.to_owned())));
    let application = peers::patient().layer(home);
    loop {
        let (connection, _) = listener.accept().await?;
        let service = TowerToHyperService::new(application.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(connection), service);
        tokio::spawn(connection);
    }
}

/// A running server, which ends when this drops.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(which: &str) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["serve", which])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let said = child.stdout.take().ok_or("a pipe")?;
        BufReader::new(said).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, child })
    }

    /// In MiB: `VmRSS`, what it has in memory, or `VmHWM`, the most it ever had.
    pub fn memory(&self, what: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("no such line")?;
        let number = line.trim_start_matches(':').split_whitespace().next().ok_or("no number")?;
        Ok(number.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
