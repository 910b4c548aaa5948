//! A secret, the address of a promoter or a piece of the body turns up in a log. Whatever becomes of
//! a delivery, the crate writes none of them: not in its spans and events, not in an observer's, not
//! in the answer, not in the record, and not in a `Debug` form of its own.

use std::{
    io::{self, Write},
    panic::resume_unwind,
    sync::{Arc, Mutex},
};

use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};
use tower_firstpromoter::{
    Access, Outcome, ReplyBody, Webhook,
    event::Fulfilment,
    fulfil_fn,
    observe::DeliveryEvent,
    store::{Claim, MemoryStore, Store},
};
use tracing_subscriber::fmt::format::FmtSpan;

#[path = "support/deliver.rs"]
mod deliver;

use deliver::{EMAIL, SECRET, body, delivery};

const OLD: &str = "an-old-secret-of-theirs";

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn note(&self, what: impl std::fmt::Debug) {
        writeln!(self.clone(), "{what:?} {what:#?}").expect("a buffer");
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("whole").clone()).expect("a text")
    }
}

/// One test in this file: what others log at the same time decides which spans are made.
#[tokio::test]
async fn whatever_becomes_of_a_delivery() {
    let written = Written::default();
    let to = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || to.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let handler = fulfil_fn(async |fulfilment: Fulfilment| match fulfilment.id.get() {
        1 => Ok(Outcome::Fulfilled),
        2 => Ok(Outcome::Pending),
        3 => Ok(Outcome::InDoubt("timed out".to_owned())),
        4 => Err("no such user"),
        _ => resume_unwind(Box::new("a bug")),
    });
    let store = MemoryStore::new(10);
    let access = Access::query("key", SECRET).and_then(|access| access.or_secret(OLD));
    let access = access.expect("secrets");
    written.note(&access);
    let webhook = Webhook::new(handler, store.clone(), access).observe({
        let written = written.clone();
        move |event: &DeliveryEvent<'_>| written.note(event)
    });
    written.note((&webhook, &store, webhook.clone().at("/hook")));
    let app = tower::service_fn(async |_: http::Request<String>| {
        Ok::<_, io::Error>(http::Response::new(ReplyBody::default()))
    });
    let mut inside = webhook.clone().at("/").layer(app);

    let mut requests: Vec<_> = (1..=5).chain(1..=5).map(delivery).collect();
    requests.push(delivery(6).map(|body| body.replace("credits\"", "")));
    requests.push(delivery(6).map(|body| body.replace("pending\"", "pending_no_more\"")));
    requests.push(delivery(6).map(|body| body.replace("\"id\":7", "\"id\":\"seven\"")));
    let mut refused = delivery(6);
    *refused.uri_mut() = format!("/?key={SECRET}&key={OLD}").parse().expect("a URI");
    requests.push(refused);
    for request in requests {
        written.note((webhook.clone().call(request.clone()), inside.call(request.clone())));
        let Ok(answer) = webhook.clone().oneshot(request).await;
        written.note((answer.status(), answer.headers(), answer.extensions()));
        written.note(answer.into_body().collect().await.expect("a body").to_bytes());
    }
    written.note(store.open(100).await);
    written.note(Claim::new(&Fulfilment::decode(body(1)).expect("a fulfilment")));
    written.note(Fulfilment::decode(body(6).replace("credits\"", "")));

    let text = written.text();
    assert!(text.contains("no such user") && text.contains("firstpromoter.delivery"), "{text}");
    for private in [SECRET, OLD, EMAIL, "ada@", "key=", "?", "{\"event", "{\\\"event"] {
        let lines: Vec<_> = text.lines().filter(|line| line.contains(private)).collect();
        assert!(lines.is_empty(), "{private}: {lines:?}");
    }
}
