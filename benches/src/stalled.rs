//! Ten thousand uploads that stop half-way: what the server holds for them.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{
    Result,
    bounds::Bounds,
    payload,
    peers::{self, PATH, SECRET},
    server::Server,
};

const UPLOADS: usize = 10_000;

const SERVERS: [(&str, &str); 4] = [
    ("ours, on hyper alone", "patient on hyper alone"),
    ("ours", "patient"),
    ("by hand", "patient by hand"),
    ("axum Json<T>", "axum Json<T>"),
];

/// In MiB.
const AT_MOST: f64 = 64.0;

pub fn report(bounds: &mut Bounds) -> Result<()> {
    println!("## {UPLOADS} stalled uploads\n");
    println!(
        "Memory of the server's process, in MiB: with nobody connected, with {UPLOADS} idle \
         connections, and when each of them has sent its head and half of the 2.5 KB.\n"
    );
    println!("| | started | connected | stalled | more |\n|---|--:|--:|--:|--:|");
    let mut kept = Vec::new();
    for (name, which) in SERVERS {
        let server = Server::start(which)?;
        let started = server.memory("VmRSS")?;
        let mut client = Client::start(&server)?;
        let connected = server.memory("VmRSS")?;
        client.go_on()?;
        let stalled = server.memory("VmHWM")?;
        let more = stalled - connected;
        println!("| {name} | {started:.1} | {connected:.1} | {stalled:.1} | {more:.1} |");
        if name.starts_with("ours") {
            kept.push((name, more));
        }
    }
    println!();
    for (name, more) in kept {
        bounds.expect(
            &format!("{UPLOADS} stalled uploads ({name}), MiB more than idle"),
            more,
            AT_MOST,
        );
    }
    println!();
    Ok(())
}

/// The client's process, so that the limit of open files holds for each side by itself.
struct Client {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Client {
    /// Returns when all are connected and idle.
    fn start(server: &Server) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["stall", &server.address.to_string(), &UPLOADS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, reports) = (child.stdin.take(), child.stdout.take());
        let orders = orders.ok_or("a pipe")?;
        let mut client = Self { child, orders, reports: BufReader::new(reports.ok_or("a pipe")?) };
        client.hear("connected")?;
        Ok(client)
    }

    /// Returns when all uploads stand.
    fn go_on(&mut self) -> Result<()> {
        writeln!(self.orders)?;
        self.hear("stalled")
    }

    fn hear(&mut self, expected: &str) -> Result<()> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        if line.trim() == expected {
            return Ok(());
        }
        Err("the client gave up: are fewer than 10,100 open files allowed (`ulimit -n`)?".into())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client: connects, and on a line of its standard input begins the uploads.
pub fn stall(address: &str, count: usize) -> Result<()> {
    let payload = payload::delivery(1_000_000);
    let head = format!(
        "POST {PATH}?key={SECRET} HTTP/1.1\r\nhost: example.com\r\n\
         user-agent: rest-client/2.1.0 (linux x86_64) ruby/3.2.2p53\r\naccept: */*\r\n\
         accept-encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        payload.len()
    );
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = TcpStream::connect(address)?;
        home(&mut connection)?;
        connections.push(connection);
    }
    report_and_wait("connected")?;
    for connection in &mut connections {
        connection.write_all(head.as_bytes())?;
        // The server says "100 Continue" when it waits for the body.
        connection.read_exact(&mut [0; "HTTP/1.1 100 Continue\r\n\r\n".len()])?;
        connection.write_all(&payload[..payload.len() / 2])?;
    }
    // One more request, after all of them: once it is answered, they have been read.
    home(&mut TcpStream::connect(address)?)?;
    report_and_wait("stalled")
}

/// Asks for the home page, and leaves the connection open.
fn home(connection: &mut TcpStream) -> Result<()> {
    connection.write_all(b"GET / HTTP/1.1\r\nhost: example.com\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(peers::HOME.as_bytes()) {
        let mut byte = [0; 512];
        let read = connection.read(&mut byte)?;
        if read == 0 {
            return Err("no answer".into());
        }
        answer.extend_from_slice(&byte[..read]);
    }
    Ok(())
}

fn report_and_wait(report: &str) -> Result<()> {
    println!("{report}");
    std::io::stdout().flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
