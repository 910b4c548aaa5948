//! Neither key nor e-mail nor secret is in a log, in `Debug`, in an error or in the report. A file of
//! its own: subscribers of one thread miss what another thread has looked at first.

use std::{
    convert::Infallible,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tower::ServiceExt;
use tower_firstpromoter::{
    Access, Outcome, Webhook,
    api::Client,
    event::Fulfilment,
    fulfil_fn,
    store::MemoryStore,
    testkit::{Account, Payload},
};

const KEY: &str = "key-of-the-account-1f4e";

const SECRET: &str = "at-least-sixteen-bytes";

const EMAIL: &str = "jane.roe@example.com";

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_private_is_told() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let payload = |id| Payload::new(id).with("/data/promoter/email", EMAIL);
    let account = Account::new().fail_every(4);
    (1..=9).for_each(|id| account.add(&payload(id)));
    let client = Client::new(account, KEY).expect("a client");
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    let access = Access::query("key", SECRET).expect("a secret");
    let webhook = Webhook::new(handler, MemoryStore::new(10), access).confirm_with(client.clone());
    for payload in [payload(1).amount(4), payload(1), payload(10)] {
        let delivery = http::Request::post(format!("/?key={SECRET}"))
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(payload.to_bytes()));
        let _ = webhook.clone().oneshot(delivery.expect("a request")).await;
    }
    let report = webhook.reconcile(&client).await;
    assert!(!report.failed.is_empty(), "{report}");

    let log = String::from_utf8(lines.0.lock().expect("whole").clone()).expect("text");
    assert!(log.contains("the account's payout has another amount"), "{log}");
    for text in [log, report.to_string(), format!("{report:?} {webhook:?} {client:?}")] {
        for private in [KEY, EMAIL, SECRET, "auth_token"] {
            assert!(!text.contains(private), "{text}");
        }
    }
}
