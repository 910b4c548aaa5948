//! Deliveries that are sent again until they are answered with `200`, as the sender does.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::{collections::BTreeMap, ops::Range, sync::Mutex, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::{sleep, timeout};
use tower_firstpromoter::{Verdict, Webhook};

use super::deliver::deliver;

/// How many senders there are at once.
const AT_ONCE: usize = 24;

/// Sends each fulfilment again and again, each time to another webhook, until all were answered
/// with `200`. Returns how often each answer came.
pub(crate) async fn until_fulfilled(
    webhooks: &[Webhook],
    ids: Range<u64>,
    duplicates: usize,
) -> BTreeMap<&'static str, usize> {
    let deliveries = ids.flat_map(|id| (0..duplicates).map(move |nth| (id, nth)));
    let counts = Mutex::new(BTreeMap::new());
    let sent = stream::iter(deliveries).map(async |(id, nth)| {
        for time in nth.. {
            let verdict = deliver(&webhooks[time % webhooks.len()], id).await;
            *counts.lock().expect("whole").entry(verdict.code()).or_default() += 1;
            if verdict == Verdict::Fulfilled {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    let all = timeout(Duration::from_secs(120), sent.buffer_unordered(AT_ONCE).collect::<()>());
    assert!(all.await.is_ok(), "not all of them in two minutes: {counts:?}");
    counts.into_inner().expect("whole")
}
