//! x
use std::convert::Infallible;
use tower::{Service, ServiceExt};
use tower_firstpromoter::{
    Access, Outcome, Verdict, Webhook, event::Fulfilment, fulfil_fn, once::MemoryStore,
};
#[tokio::test]
async fn a() {
    let h = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    let w =
        Webhook::new(h, Access::query("key", "at least sixteen bytes")).once(MemoryStore::new(10));
    for _ in 0..3 {
        let r = http::Request::post("/?key=at+least+sixteen+bytes").header("content-type", "application/json")
            .body(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#.to_owned()).unwrap();
        let a = w.clone().oneshot(r).await.unwrap();
        assert_eq!(a.extensions().get(), Some(&Verdict::Granted));
    }
}
