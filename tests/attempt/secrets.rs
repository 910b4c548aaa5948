//! A secret is replaced, and the old one can be removed when it admits no more deliveries: each
//! delivery's event tells the position of the secret that admitted it.

use std::sync::{Arc, Mutex};

use tower::ServiceExt;
use tower_firstpromoter::{Access, Webhook, observe::DeliveryEvent, store::MemoryStore};

use crate::{
    Gate,
    deliver::{body, delivery},
    fulfilment,
};

#[tokio::test]
async fn which_of_them_admitted() {
    let access = Access::query("key", "an old secret, 16+").and_then(|access| {
        access.or_secret("a newer secret, 16+")?.or_secret("the newest one, 16+")
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let webhook = Webhook::new(Gate::opened(), MemoryStore::new(10), access.expect("secrets"))
        .observe({
            let seen = Arc::clone(&seen);
            move |event: &DeliveryEvent<'_>| {
                if let DeliveryEvent::Answered { verdict, secret, .. } = event {
                    seen.lock().expect("whole").push((verdict.code(), *secret));
                }
            }
        });
    for (key, body) in [
        ("the+newest+one,+16%2B", body(1)),
        ("an+old+secret,+16%2B", body(1)),
        ("a+newer+secret,+16%2B", body(2)),
        ("no+secret+of+theirs", body(3)),
        // Admitted by its head, refused for its body.
        ("a+newer+secret,+16%2B", "no JSON".to_owned()),
    ] {
        let mut request = delivery(0).map(|_| body);
        *request.uri_mut() = format!("/?key={key}").parse().expect("a URI");
        let Ok(_) = webhook.clone().oneshot(request).await;
    }
    webhook.fulfil(fulfilment(4)).await;
    assert_eq!(
        *seen.lock().expect("whole"),
        [
            ("fulfilled", Some(2)),
            ("fulfilled", Some(0)),
            ("fulfilled", Some(1)),
            ("unauthorized", None),
            ("not_json", Some(1)),
            ("fulfilled", None),
        ]
    );
}
