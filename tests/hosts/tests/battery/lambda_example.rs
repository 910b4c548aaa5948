//! `examples/lambda.rs` as it is deployed: a process of its own, which asks Lambda's runtime API for
//! events and posts its answers there. This is the runtime API.

use std::{
    env,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::IntoResponse,
    routing::{get, post},
};
use http::StatusCode;
use serde_json::Value;
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use super::{
    battery::{Answer, DOCUMENTED, Delivery, Manner},
    lambda::{Gateway, answer, event},
    socket::listen,
};

const SECRET: &str = "at least sixteen bytes";

/// Builds it, which is nothing to do after `cargo test`, and says where it is.
fn example() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/test");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", "lambda"]);
    cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    cargo.arg("--target-dir").arg(profile.parent().expect("the target directory"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "the example builds");
    profile.join("examples/lambda")
}

struct Function {
    process: Child,
    events: mpsc::Sender<String>,
    answers: mpsc::Receiver<Value>,
}

#[derive(Clone)]
struct RuntimeApi {
    events: Arc<Mutex<mpsc::Receiver<String>>>,
    answers: mpsc::Sender<Value>,
}

async fn next(State(api): State<RuntimeApi>) -> impl IntoResponse {
    let event = api.events.lock().await.recv().await.unwrap_or_default();
    let headers = [
        ("lambda-runtime-aws-request-id", "id"),
        ("lambda-runtime-deadline-ms", "9999999999999"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:1:function:f"),
    ];
    (headers, event)
}

async fn response(State(api): State<RuntimeApi>, body: Bytes) -> StatusCode {
    let answer = serde_json::from_slice(&body).expect("a gateway's answer");
    api.answers.send(answer).await.expect("the test waits for it");
    StatusCode::ACCEPTED
}

impl Function {
    async fn start() -> Self {
        let (listener, address) = listen().await;
        let (events, from_test) = mpsc::channel(1);
        let (to_test, answers) = mpsc::channel(1);
        let events_of_api = Arc::new(Mutex::new(from_test));
        let api = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .with_state(RuntimeApi { events: events_of_api, answers: to_test });
        tokio::spawn(async move { axum::serve(listener, api).await.expect("it serves") });
        let process = Command::new(example())
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "fulfilments")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("WEBHOOK_SECRET", SECRET)
            .stdout(Stdio::null())
            .spawn()
            .expect("the example starts");
        Self { process, events, answers }
    }

    async fn invoke(&mut self, query: &str, body: &str) -> Answer {
        let head = http::Request::post(format!("/any/path?{query}"))
            .header("content-type", "application/json")
            .body(())
            .expect("a request");
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let delivery = Delivery { head, bytes, manner: Manner::Whole };
        self.events
            .send(event(Gateway::Http, true, &delivery).to_string())
            .await
            .expect("the runtime API is up");
        let json = timeout(Duration::from_secs(30), self.answers.recv()).await;
        answer(&json.expect("an answer in time").expect("an answer"))
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn through_the_runtime_api() {
    let mut function = Function::start().await;
    let known = DOCUMENTED.replace(r#""cust_id": """#, r#""cust_id": "user-7""#);
    let unknown = DOCUMENTED.replace("2429153", "2429154");
    for (what, query, body, status) in [
        ("fulfilled", "key=at+least+sixteen+bytes", &*known, 200),
        ("a duplicate", "key=at+least+sixteen+bytes", &*known, 200),
        ("an unknown user", "key=at+least+sixteen+bytes", &*unknown, 202),
        ("a wrong secret", "key=another+sixteen+bytes", &*known, 401),
        ("no JSON", "key=at+least+sixteen+bytes", "{", 400),
    ] {
        let answer = function.invoke(query, body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
}
