//! Sends fulfilments to a running application as FirstPromoter does, with a day of retries in a second.
//!
//! ```text
//! cargo run --example send -- 'http://127.0.0.1:3000/webhooks/firstpromoter?key=SECRET' --unit credits
//! ```
//!
//! Exits with status 1 if a fulfilment ends with `has_issues`: its last retry got an error, or no
//! answer.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fs,
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use futures::{StreamExt, stream};
use http::{Request, Uri, uri::PathAndQuery};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_firstpromoter::testkit::{Case, FirstPromoter, Mishap, Payload, Status};

/// Sends fulfilments to a running application as FirstPromoter does.
#[derive(Parser)]
struct Options {
    /// The webhook's URL, with its secret: http://127.0.0.1:3000/webhooks/firstpromoter?key=SECRET
    url: Uri,

    /// Sends the body in this file as it is.
    #[arg(long, conflicts_with_all = ["id", "amount", "unit", "promoter", "cust_id", "storm"])]
    file: Option<PathBuf>,
    /// `data.id`. A fulfilment is fulfilled once, so use a new id for a new one.
    #[arg(long, default_value_t = 2_429_153)]
    id: u64,
    /// `data.amount`: any JSON; what is not JSON is sent as a string.
    #[arg(long, default_value = "3", allow_hyphen_values = true)]
    amount: String,
    /// `data.unit`.
    #[arg(long, default_value = "free_months")]
    unit: String,
    /// `data.promoter.id`.
    #[arg(long, default_value_t = 5_272_969)]
    promoter: u64,
    /// `data.promoter.cust_id`: the application's own id of the user.
    #[arg(long, default_value = "user-1")]
    cust_id: String,

    /// How often a delivery that ended in an error is sent again. With 0, none is sent twice.
    #[arg(long, default_value_t = 7)]
    retries: u32,
    /// From an error to the next try, where FirstPromoter takes hours.
    #[arg(long, default_value = "125ms", value_parser = duration)]
    retry_every: Duration,
    /// Sends each first delivery so many times at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    duplicates: u16,
    /// Hangs up on the first two deliveries of a fulfilment after this time (2s, 50ms).
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "duplicates")]
    hang_up_after: Option<Duration>,

    /// Sends so many different fulfilments, from `--id` on. Only to this machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    storm: Option<u64>,
    /// How many fulfilments of a storm at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    concurrency: u16,

    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let second = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        _ => return Err("a duration is a number and `ms` or `s`".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a duration starts with a number".to_owned())?;
    match Duration::try_from_secs_f64(number * second) {
        Ok(duration) if duration <= Duration::from_secs(60) => Ok(duration),
        _ => Err("a duration is at most 60s".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match send(&options).await {
        Ok(summary) => {
            if options.json {
                println!("{:#}", summary.to_json());
            } else {
                summary.print();
            }
            if summary.answers.keys().any(|answer| answer.ends_with("no_verdict")) {
                eprintln!("warning: not answered by this crate's webhook: is the path right?");
            }
            ExitCode::from(u8::from(summary.count(Status::HasIssues) > 0))
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

async fn send(options: &Options) -> Result<Summary, Box<dyn Error>> {
    let sender = sender(options)?;
    let mishap = match (options.duplicates, options.hang_up_after) {
        (_, Some(after)) => Mishap::HangUp(after),
        (1, None) => Mishap::None,
        (copies, None) => Mishap::Duplicates(copies.into()),
    };
    let file = match &options.file {
        Some(path) => Some(from_file(path)?),
        None => None,
    };
    let count = options.storm.unwrap_or(1);
    // To stderr, and nowhere if that is not a terminal.
    let progress = ProgressBar::new(count).with_style(ProgressStyle::with_template(
        "{bar:32} {human_pos}/{human_len} fulfilments, {per_sec}, {eta} left {msg}",
    )?);
    if options.storm.is_none() {
        progress.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }

    let mut summary = Summary { one: options.storm.is_none(), ..Summary::default() };
    let start = Instant::now();
    let ids = options.id..options.id.saturating_add(count);
    let mut cases = stream::iter(ids)
        .map(|id| {
            let payload = file.clone().unwrap_or_else(|| built(options, id));
            let sender = &sender;
            async move { sender.send(&payload, mishap).await }
        })
        .buffer_unordered(options.concurrency.into());
    while let Some(case) = cases.next().await {
        summary.add(case);
        progress.inc(1);
        progress.set_message(match summary.count(Status::HasIssues) {
            0 => String::new(),
            bad => format!("({bad} has_issues)"),
        });
    }
    progress.finish_and_clear();
    summary.took = start.elapsed();
    Ok(summary)
}

/// The simulated sender, over a real connection.
fn sender(options: &Options) -> Result<FirstPromoter, Box<dyn Error>> {
    let url = &options.url;
    if url.scheme_str() != Some("http") {
        return Err("the URL must start with http://: this is for servers near by".into());
    }
    let authority = url.authority().ok_or("the URL needs a host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let near = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if options.storm.is_some() && !near {
        return Err("a storm is sent to this machine only".into());
    }
    let at = authority.as_str().rsplit('@').next().unwrap_or_default().to_owned();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(5))
        .build::<_, Full<Bytes>>(connector)
        .map_request(move |mut request: Request<Full<Bytes>>| {
            let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
            if let Ok(uri) = Uri::try_from(format!("http://{at}{path}")) {
                *request.uri_mut() = uri;
            }
            request
        });
    Ok(FirstPromoter::new(client, &url.to_string())
        .retry_every(options.retry_every)
        .retries(options.retries))
}

fn from_file(path: &PathBuf) -> Result<Payload, Box<dyn Error>> {
    let body = fs::read(path).map_err(|problem| format!("{}: {problem}", path.display()))?;
    let members: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Payload::raw(members["data"]["id"].as_u64().unwrap_or_default(), body))
}

fn built(options: &Options, id: u64) -> Payload {
    let amount: Value = serde_json::from_str(&options.amount)
        .unwrap_or_else(|_| Value::String(options.amount.clone()));
    Payload::new(id)
        .amount(amount)
        .unit(&options.unit)
        .promoter(options.promoter)
        .cust_id(&options.cust_id)
}

/// How all of them ended.
#[derive(Default)]
struct Summary {
    took: Duration,
    sent: u64,
    /// Status and reason, or the reason alone where no answer came.
    answers: BTreeMap<String, u64>,
    /// Of the deliveries that were answered.
    latencies: Vec<Duration>,
    ends: HashMap<Status, u64>,
    /// The first few, to look into.
    with_issues: Vec<u64>,
    /// A single fulfilment is worth a line for each delivery.
    one: bool,
    deliveries: Vec<String>,
}

const ENDS: [Status; 3] = [Status::Completed, Status::Pending, Status::HasIssues];

impl Summary {
    fn add(&mut self, case: Case) {
        for delivery in &case.deliveries {
            self.sent += 1;
            *self.answers.entry(delivery.to_string()).or_default() += 1;
            if delivery.status.is_some() {
                self.latencies.push(delivery.took);
            }
            if self.one {
                let (at, took) = (delivery.at.as_secs_f64(), delivery.took.as_secs_f64() * 1e3);
                self.deliveries.push(format!("{at:7.3} s  {took:9.3} ms  {delivery}"));
            }
        }
        *self.ends.entry(case.status).or_default() += 1;
        if case.status == Status::HasIssues && self.with_issues.len() < 10 {
            self.with_issues.push(case.id.get());
        }
    }

    fn count(&self, status: Status) -> u64 {
        self.ends.get(&status).copied().unwrap_or_default()
    }

    fn per_second(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// In milliseconds: the median, the 99th of a hundred, the longest.
    fn percentiles(&self) -> Option<[f64; 3]> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some([50, 99, 100].map(|percent| sorted[last * percent / 100].as_secs_f64() * 1e3))
    }

    fn to_json(&self) -> Value {
        let [p50, p99, max] = self.percentiles().unwrap_or_default();
        let fulfilments = ENDS.map(|status| (status.to_string(), self.count(status)));
        json!({
            "fulfilments": BTreeMap::from(fulfilments),
            "with_issues": self.with_issues,
            "deliveries": self.sent,
            "answers": self.answers,
            "latency_ms": { "p50": p50, "p99": p99, "max": max },
            "seconds": self.took.as_secs_f64(),
            "deliveries_per_second": self.per_second(),
        })
    }

    fn print(&self) {
        if self.one && !self.deliveries.is_empty() {
            println!("{:>9}  {:>12}  answer", "sent at", "took");
            self.deliveries.iter().for_each(|delivery| println!("{delivery}"));
            println!();
        }
        for status in ENDS {
            println!("{:<24} {:>9}", format!("fulfilments {status}"), self.count(status));
        }
        println!("{:<24} {:>9}", "deliveries", self.sent);
        for (answer, count) in &self.answers {
            println!("  {answer:<22} {count:>9}");
        }
        if let Some([p50, p99, max]) = self.percentiles() {
            println!("{:<24} {p50:>9.2} ms", "latency, median");
            println!("{:<24} {p99:>9.2} ms", "latency, 99 of 100");
            println!("{:<24} {max:>9.2} ms", "latency, longest");
        }
        println!("{:<24} {:>9.0}", "deliveries a second", self.per_second());
        if !self.with_issues.is_empty() {
            eprintln!("has_issues, among others: {:?}", self.with_issues);
        }
    }
}
