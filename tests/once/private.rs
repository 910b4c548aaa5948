//! A handler's error quotes the payload, as errors do. Neither the store's file nor an observer may
//! get to see the address in it.

use tower_firstpromoter::{
    Access, Outcome, Verdict, Webhook,
    event::Fulfilment,
    fulfil_fn,
    once::{RedbStore, Store},
};

use crate::{
    Log,
    delivery::{EMAIL, SECRET},
    send,
};

#[tokio::test]
async fn no_address_in_a_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let store = RedbStore::open(&path).expect("opens");
    let log = Log::default();
    let handler = fulfil_fn(async |fulfilment: Fulfilment| {
        let promoter = &fulfilment.promoter;
        match fulfilment.id.get() {
            1 => Err::<Outcome, _>(format!("no user {EMAIL}, customer {:?}", promoter.cust_id)),
            _ => std::panic::resume_unwind(Box::new(format!("no user {EMAIL}"))),
        }
    });
    let webhook = Webhook::new(handler, Access::query("key", SECRET))
        .observe(log.observer())
        .once(store.clone());
    assert_eq!(send(&webhook, 1).await, Verdict::Failed);
    assert_eq!(send(&webhook, 2).await, Verdict::Panicked);
    let seen = log.take();
    assert_eq!(seen[0], "failed: no user [redacted], customer Some(\"[redacted]\")");
    assert!(!format!("{seen:?}").contains(EMAIL));

    let doubts = store.in_doubt().await.expect("readable");
    assert_eq!(doubts.iter().map(|record| record.id.get()).collect::<Vec<_>>(), [2]);
    drop((store, webhook));

    let file = std::fs::read(&path).expect("readable");
    let holds = |text: &str| file.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(holds("no user [redacted], customer"), "the reason is there");
    for private in [EMAIL, "jane", "user_7", SECRET, "fulfilment_pending"] {
        assert!(!holds(private), "{private}");
    }
}
