//! Whoever can reach the port writes what they like to it: heads and bodies in pieces, lengths that
//! lie, requests hidden in requests, paths that are nearly the webhook's. Each gets its answer, a
//! `200` of the webhook's leaves only for what is fulfilled, each fulfilment is fulfilled once, and the
//! server goes on.
//!
//! The battery runs against a server in this process, whose application answers every other path
//! with `200` as single-page applications do, and against the axum example, if it is built
//! (`cargo build --example axum`).

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_firstpromoter::{
    Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore,
};

const PATH: &str = "/webhooks/firstpromoter";
const KEY: &str = "a-key-for-raw-sockets";

/// How long the server in this process waits for an upload.
const WITHIN: Duration = Duration::from_secs(2);

/// What a case of the battery sends, and what has to come back.
struct Case {
    name: String,
    /// Written one after the other, with a moment between them.
    pieces: Vec<Vec<u8>>,
    then: Then,
    /// Each answer as its status and its code; `app` where the application gave it.
    answers: Vec<&'static str>,
    /// What must be fulfilled afterwards; nothing else may be.
    fulfils: Vec<u64>,
    /// Needs the short deadline or the handler of the server in this process.
    here: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Listens for what comes.
    Listen,
    /// Says that nothing more will come, and listens.
    HalfClose,
}

fn id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn body(id: u64) -> String {
    format!(
        r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","promoter":{{"id":7}}}}}}"#
    )
}

/// A request with this line, these headers and this body, as they are given.
fn raw(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nHost: localhost\r\n{headers}\r\n{body}")
}

fn post(target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let headers =
        format!("Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}");
    raw(&format!("POST {target} HTTP/1.1"), &headers, body)
}

fn target() -> String {
    format!("{PATH}?key={KEY}")
}

fn delivery(id: u64) -> String {
    post(&target(), "", &body(id))
}

fn chunked(headers: &str, chunks: &str) -> String {
    let headers =
        format!("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n{headers}");
    raw(&format!("POST {} HTTP/1.1", target()), &headers, chunks)
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[derive(Default)]
struct Battery(Vec<Case>);

impl Battery {
    fn sends(&mut self, name: &str, request: impl Into<Vec<u8>>, answers: &[&'static str]) {
        self.case(name, vec![request.into()], answers, &[]);
    }

    fn fulfils(&mut self, name: &str, request: impl Into<Vec<u8>>, id: u64) {
        self.case(name, vec![request.into()], &["200 fulfilled"], &[id]);
    }

    fn case(
        &mut self,
        name: &str,
        pieces: Vec<Vec<u8>>,
        answers: &[&'static str],
        fulfils: &[u64],
    ) -> &mut Case {
        self.0.push(Case {
            name: name.to_owned(),
            pieces,
            then: Then::Listen,
            answers: answers.to_vec(),
            fulfils: fulfils.to_vec(),
            here: false,
        });
        self.0.last_mut().expect("just pushed")
    }
}

fn battery() -> Vec<Case> {
    let mut battery = Battery::default();
    in_pieces(&mut battery);
    lengths_that_lie(&mut battery);
    requests_in_requests(&mut battery);
    other_paths(&mut battery);
    other_secrets(&mut battery);
    odd_heads(&mut battery);
    bodies(&mut battery);
    ends(&mut battery);
    battery.0
}

fn in_pieces(battery: &mut Battery) {
    let one = id();
    battery.fulfils("in one piece", delivery(one), one);

    let one = id();
    let bytes = delivery(one).bytes().map(|byte| vec![byte]).collect();
    battery.case("byte by byte", bytes, &["200 fulfilled"], &[one]);

    let one = id();
    let request = delivery(one).into_bytes();
    let middle = request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 2;
    let pieces = vec![request[..middle].to_vec(), request[middle..].to_vec()];
    battery.case("split at the head's end", pieces, &["200 fulfilled"], &[one]);

    let one = id();
    let chunks: String =
        body(one).chars().map(|letter| chunk(&letter.to_string())).collect::<String>()
            + "0\r\n\r\n";
    battery.fulfils("in chunks of one byte", chunked("", &chunks), one);

    let one = id();
    let chunks =
        format!("{:X};name=\"v\"\r\n{}\r\n0\r\nX-T: t\r\n\r\n", body(one).len(), body(one));
    battery.fulfils("a chunk's extension, and trailers", chunked("Trailer: X-T\r\n", &chunks), one);

    let one = id();
    let twice = delivery(one).repeat(2);
    battery.case("pipelined twice", vec![twice.into()], &["200 fulfilled"; 2], &[one]);

    let (one, two) = (id(), id());
    let all = [raw("GET / HTTP/1.1", "", ""), delivery(one), delivery(two)].concat();
    let answers = ["200 app", "200 fulfilled", "200 fulfilled"];
    battery.case("pipelined behind the application", vec![all.into()], &answers, &[one, two]);
}

fn lengths_that_lie(battery: &mut Battery) {
    let whole = body(id());
    let with = |headers: &str| {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        raw(&format!("POST {} HTTP/1.1", target()), &headers, &whole)
    };
    battery.sends("too short", with("Content-Length: 20\r\n"), &["400 not_json", "400"]);
    battery.sends("none at all", with(""), &["400 not_json", "400"]);
    battery.sends("none, and closed", with("Connection: close\r\n"), &["400 not_json"]);
    battery.sends("two of them", with("Content-Length: 20\r\nContent-Length: 90\r\n"), &["400"]);
    battery.sends("negative", with("Content-Length: -1\r\n"), &["400"]);
    battery.sends("with a sign", with("Content-Length: +104\r\n"), &["400"]);
    battery.sends("of 21 digits", with("Content-Length: 100000000000000000000\r\n"), &["400"]);
    battery.sends("over the limit", with("Content-Length: 262145\r\n"), &["413 body_too_large"]);
    battery
        .case("too long", vec![with("Content-Length: 200\r\n").into()], &["408 body_timeout"], &[])
        .here = true;
    // The server's: at the end of the stream it gives the connection up.
    let closed = vec![with("Content-Length: 200\r\n").into()];
    battery.case("too long, and closed", closed, &["400 body_broken"], &[]).then = Then::HalfClose;

    let huge = chunk(&" ".repeat(64 * 1024)).repeat(5) + "0\r\n\r\n";
    battery.sends("chunks over the limit", chunked("", &huge), &["413 body_too_large"]);
    for (name, chunks) in [
        ("a chunk without a size", "\r\n\r\n"),
        ("a chunk's size in no digits", "zz\r\n\r\n"),
        ("a chunk's size past 64 bits", "fffffffffffffffff\r\n"),
        ("a negative chunk", "-1\r\n\r\n"),
        ("a chunk that ends elsewhere", "2\r\n{}}\r\n0\r\n\r\n"),
    ] {
        battery.sends(name, chunked("", chunks), &["400 body_broken"]);
    }
    let open = vec![chunked("", &chunk(&whole)).into()];
    battery.case("without a last chunk", open, &["408 body_timeout"], &[]).here = true;
    let open = vec![chunked("", &chunk(&whole)).into()];
    let case = battery.case("without a last chunk, closed", open, &["400 body_broken"], &[]);
    case.then = Then::HalfClose;
}

/// Two servers that disagree where a request ends are how one is hidden in another. What is hidden
/// still needs the secret, and none of these lets one reader see what another does not.
fn requests_in_requests(battery: &mut Battery) {
    let hidden = post(PATH, "", &body(id()));
    let both = |headers: &str| {
        let length = format!("Content-Length: {}\r\n{headers}", 5 + hidden.len());
        let headers = format!("Content-Type: application/json\r\n{length}");
        raw("POST /elsewhere HTTP/1.1", &headers, &format!("0\r\n\r\n{hidden}"))
    };
    // The server answers the first and closes the connection on the rest.
    battery.sends("a length and chunks", both("Transfer-Encoding: chunked\r\n"), &["200 app"]);
    battery.sends("chunks that are none", both("Transfer-Encoding: xchunked\r\n"), &["400"]);
    battery.sends("chunks first", both("Transfer-Encoding: chunked, identity\r\n"), &["400"]);
    battery.sends("a space at the colon", both("Transfer-Encoding : chunked\r\n"), &["400"]);
    battery.sends("a folded header", both("X: y\r\n Transfer-Encoding: chunked\r\n"), &["400"]);

    let one = id();
    let refused = post(PATH, "", &body(id())) + &delivery(one);
    let answers = ["401 unauthorized", "200 fulfilled"];
    battery.case("behind a refused one", vec![refused.into()], &answers, &[one]);

    // The secret of one request does not let in the next one on its connection.
    let one = id();
    let next = delivery(one) + &post(PATH, "", &body(id()));
    let answers = ["200 fulfilled", "401 unauthorized"];
    battery.case("behind a fulfilled one", vec![next.into()], &answers, &[one]);
}

fn other_paths(battery: &mut Battery) {
    let to = |target: &str| post(target, "", &body(id()));
    // The application answers for these, with a `200` that nobody earned: a mistyped path behind
    // such an application is a fulfilment lost in silence, and nothing that a webhook could prevent.
    for path in [
        "//webhooks/firstpromoter",
        "/webhooks//firstpromoter",
        "/webhooks/./firstpromoter",
        "/webhooks/x/../firstpromoter",
        "/webhooks/firstpromoter//",
        "/webhooks/firstpromoter/x",
        "/webhooks/firstpromoter;x=y",
        "/webhooks/firstpromoter%20",
        "/webhooks/firstpromote%72",
        "/webhooks%2Ffirstpromoter",
        "/Webhooks/FirstPromoter",
        "/webhooks/firstpromote",
        "/webhooks/firstpromoterr",
    ] {
        battery.sends(path, to(&format!("{path}?key={KEY}")), &["200 app"]);
    }
    for (name, target) in [
        ("a slash at the end", format!("{PATH}/?key={KEY}")),
        ("absolute form", format!("http://localhost{PATH}?key={KEY}")),
        ("absolute form, elsewhere", format!("http://example.com:81{PATH}?key={KEY}")),
    ] {
        let one = id();
        battery.fulfils(name, post(&target, "", &body(one)), one);
    }
    battery.sends("asterisk form", raw("OPTIONS * HTTP/1.1", "", ""), &["200 app"]);
    battery.sends("asterisk form by POST", to("*"), &["200 app"]);
    battery.sends("no path", to(&format!("?key={KEY}")), &["400"]);
    battery.sends("a space in the target", to(&format!("{PATH} ?key={KEY}")), &["400"]);
    battery.sends("NUL in the target", to(&format!("{PATH}\0?key={KEY}")), &["400"]);
    battery.sends("a fragment", to(&format!("{PATH}#?key={KEY}")), &["401 unauthorized"]);
}

fn other_secrets(battery: &mut Battery) {
    for query in [
        String::new(),
        "?".to_owned(),
        "?key".to_owned(),
        "?key=".to_owned(),
        format!("?key={KEY}&key={KEY}"),
        format!("?key={KEY}&key="),
        format!("?key=&key={KEY}"),
        format!("?key={KEY}&k%65y={KEY}"),
        format!("?Key={KEY}"),
        format!("?key[]={KEY}"),
        format!("?key={KEY}x"),
        format!("?key={}", &KEY[1..]),
        format!("?key={}", KEY.to_uppercase()),
        format!("?key={KEY}%00"),
        format!("?key={KEY}%0d%0aX-Y:%20z"),
        format!("?x=&amp;key={KEY}"),
    ] {
        let request = post(&format!("{PATH}{query}"), "", &body(id()));
        battery.sends(&format!("query {query:?}"), request, &["401 unauthorized"]);
    }
    let elsewhere = format!("Authorization: Bearer {KEY}\r\nCookie: key={KEY}\r\nkey: {KEY}\r\n");
    battery.sends("in a header", post(PATH, &elsewhere, &body(id())), &["401 unauthorized"]);
    let form = format!("key={KEY}");
    battery.sends("in the body", post(PATH, "", &form), &["401 unauthorized"]);

    let one = id();
    let escaped: String = KEY.bytes().map(|byte| format!("%{byte:02x}")).collect();
    battery.fulfils("escaped", post(&format!("{PATH}?a=b&%6bey={escaped}&c"), "", &body(one)), one);
}

fn odd_heads(battery: &mut Battery) {
    let text = body(id());
    let by = |method: &str| {
        let headers = format!(
            "Content-Type: application/json\r\nX-HTTP-Method-Override: POST\r\nContent-Length: {}\r\n",
            text.len()
        );
        raw(&format!("{method} {} HTTP/1.1", target()), &headers, &text)
    };
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "POSTS"] {
        battery.sends(method, by(method), &["405 method_not_allowed"]);
    }
    battery.sends("no method", by(""), &["400"]);

    let many: String = (0..120).map(|at| format!("X-{at}: y\r\n")).collect();
    battery.sends("120 headers", post(&target(), &many, &text), &["431"]);
    let long = format!("X: {}\r\n", "y".repeat(600 * 1024));
    battery.sends("a header of 600 KB", post(&target(), &long, &text), &["431"]);
    let long = format!("{PATH}?key={}", "k".repeat(70_000));
    battery.sends("a target of 70 KB", post(&long, "", &text), &["414"]);
    battery.sends("NUL in a header", post(&target(), "X: \0\r\n", &text), &["400"]);
    battery.sends("CR in a header", post(&target(), "X: \rY: z\r\n", &text), &["400"]);
    battery.sends("HTTP/0.9", format!("POST {}\r\n\r\n{text}", target()), &["400"]);
    battery.sends("HTTP/3.0", by("POST").replace("/1.1", "/3.0"), &["400"]);
    battery.sends("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &["400"]);

    let one = id();
    let request = post(&target(), "Connection: close\r\n", &body(one));
    battery.fulfils("HTTP/1.0", request.replace("HTTP/1.1", "HTTP/1.0"), one);
    let one = id();
    battery.fulfils("lines without CR", delivery(one).replace("\r\n", "\n"), one);
    let one = id();
    let upgrade = "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n";
    battery.fulfils("an upgrade", post(&target(), upgrade, &body(one)), one);

    let one = id();
    let expects = post(&target(), "Expect: 100-continue\r\n", &body(one));
    let (head, text) = expects.split_once("\r\n\r\n").expect("a head");
    let pieces = vec![format!("{head}\r\n\r\n").into(), text.into()];
    battery.case("waits for a hundred", pieces, &["100", "200 fulfilled"], &[one]);
    // Whoever may not come in is not asked for the body.
    let expects = post(PATH, "Expect: 100-continue\r\n", &body(id()));
    let (head, _) = expects.split_once("\r\n\r\n").expect("a head");
    battery.sends("waits in vain", format!("{head}\r\n\r\n"), &["401 unauthorized"]);
}

fn bodies(battery: &mut Battery) {
    let says = |body: &str| post(&target(), "", body);
    battery.sends("empty", says(""), &["400 not_json"]);
    battery.sends(
        "NUL within",
        says(&body(id()).replace("credits", "cre\0dits")),
        &["400 not_json"],
    );
    battery.sends("two in one", says(&body(id()).repeat(2)), &["400 not_json"]);
    battery.sends("an array", says(&format!("[{}]", body(id()))), &["422 not_a_fulfilment"]);
    battery.sends(
        "a member twice",
        says(&body(id()).replace(",\"unit\"", ",\"id\":1,\"unit\"")),
        &["422 not_a_fulfilment"],
    );
    battery.sends(
        "another event",
        says(r#"{"event":{"type":"lead_signup"},"data":{}}"#),
        &["422 other_event"],
    );
    battery.sends(
        "completed",
        says(&body(id()).replace(",\"unit\"", ",\"status\":\"completed\",\"unit\"")),
        &["202 not_pending"],
    );
    let text = body(id());
    for headers in ["", "Content-Type: text/plain\r\n", "Content-Type: \r\n"] {
        let headers = format!("{headers}Content-Length: {}\r\n", text.len());
        let request = raw(&format!("POST {} HTTP/1.1", target()), &headers, &text);
        battery.sends(&format!("{headers:?}"), request, &["415 unsupported_media_type"]);
    }
    let gzip = post(&target(), "Content-Encoding: gzip\r\n", &text);
    battery.sends("compressed", gzip, &["415 unsupported_media_type"]);
}

/// What the handler says, by the unit, and the store.
fn ends(battery: &mut Battery) {
    for (unit, answers) in [
        ("left_pending", ["202 pending", "202 pending"]),
        ("fails", ["500 failed", "500 failed"]),
        ("panics", ["500 panicked", "500 in_doubt"]),
        ("cannot_know", ["500 in_doubt", "500 in_doubt"]),
        ("never_ends", ["500 in_doubt", "500 in_doubt"]),
    ] {
        let twice = post(&target(), "", &body(id()).replace("credits", unit)).repeat(2);
        battery.case(unit, vec![twice.into()], &answers, &[]).here = true;
    }
    let one = id();
    let other = body(one).replace(r#""promoter":{"id":7"#, r#""promoter":{"id":8"#);
    let other = post(&target(), "", &other);
    let both = vec![(delivery(one) + &other).into()];
    let answers = ["200 fulfilled", "500 record_mismatch"];
    battery.case("another promoter's", both, &answers, &[one]).here = true;
}

/// Where the battery goes to.
struct Server {
    address: SocketAddr,
    /// The server in this process keeps its books here; the example is asked for them.
    books: Option<Books>,
    child: Option<(Child, tempfile::TempDir)>,
}

type Books = Arc<Mutex<BTreeMap<u64, u32>>>;

impl Server {
    /// An application that answers everything with `200`, and the webhook in front.
    async fn here() -> Self {
        let books = Books::default();
        let fulfilled = Arc::clone(&books);
        let handler = fulfil_fn(move |fulfilment: Fulfilment| {
            let fulfilled = Arc::clone(&fulfilled);
            async move {
                // Long enough to be hung up on.
                sleep(Duration::from_millis(20)).await;
                match fulfilment.unit.as_str() {
                    "left_pending" => return Ok(Outcome::Pending),
                    "fails" => return Err("no such user"),
                    "panics" => panic!("on purpose"),
                    "cannot_know" => return Ok(Outcome::InDoubt("timed out".to_owned())),
                    "never_ends" => std::future::pending().await,
                    _ => {}
                }
                let mut fulfilled = fulfilled.lock().expect("never poisoned");
                *fulfilled.entry(fulfilment.id.get()).or_default() += 1;
                Ok(Outcome::Fulfilled)
            }
        });
        let access = Access::query("key", KEY).expect("a secret");
        let webhook = Webhook::new(handler, MemoryStore::new(10_000), access)
            .answer_within(WITHIN)
            .attempt_within(WITHIN / 2);
        let app = Router::new()
            .fallback(async || (StatusCode::OK, [("x-app", "yes")], "a page"))
            .layer(webhook.at(PATH));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, books: Some(books), child: None }
    }

    /// The axum example, if somebody has built it.
    fn example() -> Option<Self> {
        let here = std::env::current_exe().expect("this test's binary");
        let example = here.parent()?.parent()?.join("examples").join("axum");
        if !example.exists() {
            println!("not run against the axum example, which is not built: {}", example.display());
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(example)
            .current_dir(&folder)
            .envs([("PORT", "0"), ("WEBHOOK_KEY", KEY)])
            .envs([("FULFILMENTS", "fulfilments.redb"), ("GRANTS", "grants.jsonl")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let address = output.lines().map_while(Result::ok).find_map(|line| {
            line.split_once("http://").and_then(|(_, address)| address.trim().parse().ok())
        });
        let address = address.expect("the example says where it listens");
        Some(Self { address, books: None, child: Some((child, folder)) })
    }

    async fn fulfilled(&self) -> BTreeMap<u64, u32> {
        if let Some(books) = &self.books {
            return books.lock().expect("never poisoned").clone();
        }
        let request = raw("GET /grants HTTP/1.1", "Connection: close\r\n", "");
        let answer = talk(self.address, &[request.into()], Then::Listen, 1).await;
        let start = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let grants: Vec<serde_json::Value> =
            serde_json::from_slice(&answer[start..]).expect("a list of grants");
        let mut fulfilled = BTreeMap::new();
        for grant in grants {
            *fulfilled.entry(grant["fulfilment"].as_u64().expect("an id")).or_default() += 1;
        }
        fulfilled
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes the pieces and reads until there are so many answers, and a moment longer, or the end.
async fn talk(address: SocketAddr, pieces: &[Vec<u8>], then: Then, answers: usize) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    socket.set_nodelay(true).expect("a socket");
    let (mut reader, mut writer) = socket.split();
    let write = async {
        for (at, piece) in pieces.iter().enumerate() {
            if at > 0 {
                // So that it does arrive in pieces.
                sleep(Duration::from_millis(if pieces.len() > 100 { 1 } else { 50 })).await;
            }
            // A refused request's writer may find the door closed.
            if writer.write_all(piece).await.is_err() {
                break;
            }
        }
        if then == Then::HalfClose {
            let _ = writer.shutdown().await;
        }
    };
    let read = async {
        let mut received = Vec::new();
        loop {
            let patience = if parse(&received).len() < answers { 6_000 } else { 150 };
            let mut buffer = [0; 4096];
            let read = reader.read(&mut buffer);
            match timeout(Duration::from_millis(patience), read).await {
                Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return received,
                Ok(Ok(length)) => received.extend_from_slice(&buffer[..length]),
            }
        }
    };
    tokio::join!(write, read).1
}

/// The whole answers in what was received.
fn parse(mut received: &[u8]) -> Vec<String> {
    let mut answers = Vec::new();
    while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length = header("content-length").map_or(0, |length| length.parse().expect("a length"));
        let Some(body) = received.get(end + 4..end + 4 + length) else { break };
        let status = head.split(' ').nth(1).unwrap_or("?");
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let who = match (header("x-app"), body["code"].as_str()) {
            (Some(_), _) => " app".to_owned(),
            (None, Some(code)) => format!(" {code}"),
            (None, None) => String::new(),
        };
        answers.push(format!("{status}{who}"));
        received = &received[end + 4 + length..];
    }
    answers
}

async fn bombard(server: Server) {
    let here = server.books.is_some();
    let server = Arc::new(server);
    let mut running = JoinSet::new();
    // They say nothing more for as long as the battery lasts.
    let mut silent = Vec::new();
    for start in ["", "P", "POST / HTTP/1.1\r\nHost:", "PRI * HTTP/2.0\r\n"] {
        for _ in 0..8 {
            let mut socket = TcpStream::connect(server.address).await.expect("it listens");
            socket.write_all(start.as_bytes()).await.expect("it reads");
            silent.push(socket);
        }
    }
    let mut expected = BTreeMap::new();
    for case in battery() {
        if case.here && !here {
            continue;
        }
        expected.extend(case.fulfils.iter().map(|id| (*id, 1)));
        let server = Arc::clone(&server);
        running.spawn(async move {
            let received = talk(server.address, &case.pieces, case.then, case.answers.len()).await;
            // The example's application has no page for every path.
            let others = if here { "200 app" } else { "404" };
            let page = case.name.starts_with("pipelined");
            let answers = case.answers.iter().map(|answer| match *answer {
                "200 app" if page && !here => "200",
                "200 app" => others,
                answer => answer,
            });
            let answers: Vec<_> = answers.collect();
            let found = parse(&received);
            (found != answers).then(|| {
                let received = String::from_utf8_lossy(&received).into_owned();
                format!("{}: {found:?}, not {answers:?}\n{received}", case.name)
            })
        });
    }
    let wrong: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(server.fulfilled().await, expected);

    gone_half_way(&server).await;
    over_http2(&server).await;

    // And it is still there.
    let last = id();
    let received = talk(server.address, &[delivery(last).into()], Then::Listen, 1).await;
    assert_eq!(parse(&received), ["200 fulfilled"]);
    drop(silent);
}

/// Senders that hang up, one way or the other, before they can have heard the answer: the attempt
/// goes on, once, and the next delivery hears of it.
async fn gone_half_way(server: &Server) {
    let ids: Vec<u64> = (0..30).map(|_| id()).collect();
    for (at, id) in ids.iter().enumerate() {
        let mut socket = TcpStream::connect(server.address).await.expect("it listens");
        socket.write_all(delivery(*id).as_bytes()).await.expect("it reads");
        match at % 3 {
            0 => socket.shutdown().await.expect("half-closed"),
            1 => socket.set_zero_linger().expect("reset"),
            _ => {}
        }
        if at % 2 == 0 {
            sleep(Duration::from_millis(2)).await;
        }
    }
    sleep(Duration::from_millis(300)).await;
    fulfilled_once(server, &ids).await;
}

/// Each of them is answered with `200` now, and fulfilled once.
async fn fulfilled_once(server: &Server, ids: &[u64]) {
    for id in ids {
        let again = post(&target(), "Connection: close\r\n", &body(*id));
        let received = talk(server.address, &[again.into()], Then::Listen, 1).await;
        assert_eq!(parse(&received), ["200 fulfilled"]);
    }
    let fulfilled = server.fulfilled().await;
    for id in ids {
        assert_eq!(fulfilled.get(id), Some(&1), "{id}");
    }
}

type Sender = hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>>;

async fn http2(server: &Server) -> Sender {
    let socket = TcpStream::connect(server.address).await.expect("it listens");
    let executor = TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(socket))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn http2_delivery(server: &Server, target: &str, id: u64) -> Request<Full<bytes::Bytes>> {
    Request::post(format!("http://{}{target}", server.address))
        .header("content-type", "application/json")
        .body(Full::from(body(id)))
        .expect("a request")
}

async fn over_http2(server: &Server) {
    let mut sender = http2(server).await;
    for (target, status, fulfils) in [
        (target(), 200, true),
        (PATH.to_owned(), 401, false),
        (format!("{PATH}?key={KEY}&key={KEY}"), 401, false),
        (format!("/{PATH}?key={KEY}"), if server.books.is_some() { 200 } else { 404 }, false),
    ] {
        let one = id();
        let request = http2_delivery(server, &target, one);
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), status, "{target}");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body.starts_with(b"{\"code\":\"fulfilled\""), fulfils, "{target}");
        assert_eq!(server.fulfilled().await.contains_key(&one), fulfils, "{target}");
    }

    // Rapid reset: streams opened and given up at once, 20 times over a hundred.
    let mut ids = Vec::new();
    for _ in 0..20 {
        let mut sender = http2(server).await;
        for at in 0..100 {
            if sender.ready().await.is_err() {
                break; // the server has had enough of this connection, and may
            }
            let one = id();
            ids.push(one);
            let answer = sender.send_request(http2_delivery(server, &target(), one));
            if at % 10 == 0 {
                let _ = timeout(Duration::from_millis(1), answer).await;
            }
        }
    }
    assert!(ids.len() >= 20);
    sleep(Duration::from_millis(500)).await;
    let fulfilled = server.fulfilled().await;
    assert!(fulfilled.values().all(|times| *times == 1), "fulfilled twice: {fulfilled:?}");
    fulfilled_once(server, &ids[..20]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_page_for_every_path() {
    bombard(Server::here().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_axum_example() {
    if let Some(server) = Server::example() {
        bombard(server).await;
    }
}
