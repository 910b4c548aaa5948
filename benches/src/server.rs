//! A server in a process of its own.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use axum::Router;

use crate::{Result, peers};

fn application(which: &str) -> Result<Router> {
    Ok(match which {
        "ours" => peers::as_router_layer(),
        "ours, memory store" => peers::once_as_router_layer(),
        "axum Json<T>" => peers::plain_axum(),
        "by hand" => peers::by_hand(),
        "patient" => peers::patient(),
        "patient by hand" => peers::patient_by_hand(),
        _ => return Err(format!("nothing to serve is called {which}").into()),
    })
}

/// Serves on one thread, says where, and ends with its standard input.
pub fn serve(which: &str) -> Result<()> {
    let application = application(which)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        // When whoever started it is gone, so is its end of the pipe.
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
        axum::serve(listener, application).await?;
        Ok(())
    })
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
