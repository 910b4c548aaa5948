//! The example runs twice over one database, as behind a load balancer, and the sender's duplicates
//! reach both at once, over real sockets. The account is credited once, and stays so over restarts.

mod support {
    pub(crate) mod postgres;
}

use std::{
    env,
    path::Path,
    process::{Command as StdCommand, Stdio},
};

use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use self::support::postgres::{Database, story};

struct Process {
    process: Child,
    address: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Process {
    async fn start(db: &Database) -> Self {
        // `cargo test` builds the examples beside the tests.
        let this = env::current_exe().expect("a path");
        let target = this.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
        let example = target.join("examples/postgres").with_extension(env::consts::EXE_EXTENSION);
        assert!(example.exists(), "{} is not built: cargo build --examples", example.display());
        let mut process = Command::new(example)
            .envs([
                ("DATABASE_URL", &*db.url),
                ("PORT", "0"),
                ("WEBHOOK_KEY", "a-key-of-this-test"),
            ])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts");
        let output = process.stdout.take().expect("piped");
        let first = BufReader::new(output).lines().next_line().await.expect("a pipe");
        let address = first.as_deref().and_then(|line| line.strip_prefix("listening on "));
        let address = address.expect("it says where it listens").to_owned();
        Self { process, address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
        let answer = self.client.request(request).await.expect("an answer");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    async fn deliver(&self, id: u64, cust_id: &str) -> (StatusCode, Value) {
        let body = json!({
            "event": { "type": "fulfilment_pending" },
            "data": {
                "id": id, "amount": 3, "unit": "credits", "promoter": { "id": 7, "cust_id": cust_id }
            }
        });
        let url = format!("{}/webhooks/firstpromoter?key=a-key-of-this-test", self.address);
        let request = Request::post(url).header("content-type", "application/json");
        self.ask(request.body(body.to_string().into()).expect("a request")).await
    }

    async fn accounts(&self) -> Value {
        let request = Request::get(format!("{}/accounts", self.address));
        let (status, accounts) = self.ask(request.body(Full::default()).expect("a request")).await;
        assert_eq!(status, 200);
        accounts
    }

    async fn stop(mut self) {
        let pid = self.process.id().expect("it runs").to_string();
        assert!(StdCommand::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert!(self.process.wait().await.expect("it ends").success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_credit_once() {
    story(|db| async move {
        let (one, other) = tokio::join!(Process::start(&db), Process::start(&db));
        for id in 1..=10 {
            let answers = join_all((0..64).map(|n| {
                let process = if n % 2 == 0 { &one } else { &other };
                process.deliver(id, "ada")
            }))
            .await;
            let granted = answers.iter().filter(|(status, _)| *status == 200).count();
            let in_progress = answers.iter().filter(|(status, _)| *status == 409).count();
            assert!(granted > 0, "{answers:?}");
            assert_eq!(granted + in_progress, 64, "{answers:?}");
        }
        let (status, why) = one.deliver(11, "").await;
        assert_eq!((status.as_u16(), &why["code"]), (202, &json!("pending")), "for no account");
        let expected = json!({ "ada": 30 });
        assert_eq!(one.accounts().await, expected);

        one.stop().await;
        other.stop().await;
        let again = Process::start(&db).await;
        for id in 1..=10 {
            assert_eq!(again.deliver(id, "ada").await.0, 200);
        }
        assert_eq!(again.accounts().await, expected);
        again.stop().await;
    })
    .await;
}
