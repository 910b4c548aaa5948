//! Ten thousand uploads that stop half-way: what the server holds for them.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use crate::{
    Result,
    bounds::Bounds,
    payload,
    peers::{PATH, SECRET},
    server::Server,
};

const UPLOADS: usize = 10_000;

/// In MiB.
const AT_MOST: f64 = 64.0;

pub fn report(bounds: &mut Bounds) -> Result<()> {
    println!("## {UPLOADS} stalled uploads\n");
    println!("Each has sent its head and half of the 2.5 KB.\n");
    println!("| | idle, MiB | above idle, MiB | a connection, KiB |\n|---|--:|--:|--:|");
    let mut ours = 0.0;
    for (name, which) in [("ours", "patient"), ("by hand", "patient by hand")] {
        let server = Server::start(which)?;
        // What the first requests load and allocate is there for good, uploads or not.
        let mut warm = client(&server, 100)?;
        warm.kill()?;
        warm.wait()?;
        let idle = server.memory("VmRSS")?;
        let mut client = client(&server, UPLOADS)?;
        let above = server.memory("VmHWM")? - idle;
        client.kill()?;
        client.wait()?;
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} |",
            idle / 1024.0,
            above / 1024.0,
            above / UPLOADS as f64
        );
        if name == "ours" {
            ours = above / 1024.0;
        }
    }
    println!();
    bounds.expect("10,000 stalled uploads, MiB above idle", ours, AT_MOST);
    println!();
    Ok(())
}

/// Starts the client in a process of its own, and waits until its uploads all stand.
fn client(server: &Server, count: usize) -> Result<std::process::Child> {
    let mut client = Command::new(env::current_exe()?)
        .args(["stall", &server.address.to_string(), &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(client.stdout.take().ok_or("a pipe")?).read_line(&mut line)?;
    if line.trim() != "stalled" {
        return Err("the uploads did not stand: is the limit of open files below 10,100?".into());
    }
    Ok(client)
}

/// The client: opens the uploads, says so, and stays until its standard input ends.
pub fn stall(address: &str, count: usize) -> Result<()> {
    let payload = payload::delivery(1_000_000);
    let head = format!(
        "POST {PATH}?key={SECRET} HTTP/1.1\r\nhost: example.com\r\n\
         user-agent: rest-client/2.1.0 (linux x86_64) ruby/3.2.2p53\r\naccept: */*\r\n\
         accept-encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        payload.len()
    );
    let mut uploads = Vec::with_capacity(count);
    for _ in 0..count {
        let mut upload = TcpStream::connect(address)?;
        upload.write_all(head.as_bytes())?;
        // The server says "100 Continue" when it waits for the body.
        let mut said = [0; 25];
        upload.read_exact(&mut said)?;
        upload.write_all(&payload[..payload.len() / 2])?;
        uploads.push(upload);
    }
    // A whole request comes after all of them, so once it is answered, they have been read.
    let mut last = TcpStream::connect(address)?;
    last.write_all(b"GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n")?;
    last.read_to_end(&mut Vec::new())?;
    println!("stalled");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
