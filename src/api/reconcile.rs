use std::{
    fmt::{self, Display},
    hash::{BuildHasher, RandomState},
    ops::Range,
    pin::pin,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use super::{Client, Error, payouts::is_cash};
use crate::{
    Verdict,
    event::{Fulfilment, FulfilmentId},
    webhook::Webhook,
};

/// How many payouts are worked on at once.
const CONCURRENCY: usize = 8;

/// A younger payout is left to its delivery.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);

/// The wait before completing what others fulfilled, in milliseconds: a delivery's `200` or another
/// machine may complete it. Random, so that two machines do not write at the same moment.
const OTHERS_FIRST: Range<u64> = 1_000..4_000;

/// How many entries of a list `Display` shows.
const MOST_SHOWN: usize = 20;

impl Webhook {
    /// Fulfils what FirstPromoter holds as pending, and completes there what is fulfilled.
    ///
    /// Each payout of the account's pending list that is neither cash nor younger than a minute takes
    /// the path of a delivery, [`fulfil`](Webhook::fulfil), eight at a time. What is fulfilled, now or
    /// earlier, and is still pending in the account, is completed there by [`Client::complete`]; this
    /// crate completes nothing else. A failure of one does not end the others.
    ///
    /// Run it at the start and every hour, on one machine or on all. Each run also does what an earlier
    /// one left undone, or missed because it moved between pages while the list was read.
    ///
    /// **The ids of the list are taken for the ids of deliveries**, which FirstPromoter does not
    /// document. If they differed, everything pending would be fulfilled once more: try it with one
    /// fulfilment first, or use [`confirm_with`](Webhook::confirm_with), which fulfils no delivery
    /// whose id the list does not have. [`api`](crate::api) has an example.
    ///
    /// # Cancel safety
    ///
    /// Running attempts go on if the future is dropped; the next run does the rest.
    pub async fn reconcile(&self, client: &Client) -> Reconciliation {
        let (pending, read) = client.read_pending().await;
        let mut report = Reconciliation {
            unreadable: pending.unreadable,
            error: read.err(),
            ..Reconciliation::default()
        };
        let (now, mut due) = (Timestamp::now(), Vec::new());
        for payout in pending.payouts {
            if is_cash(&payout.unit) {
                report.skipped_cash.push(payout.id);
            } else if is_young(&payout, now) {
                report.left_pending.push(payout.id);
            } else {
                due.push(payout);
            }
        }

        let mut others = Vec::new();
        let attempts = stream::iter(due).map(async |payout| {
            let (verdict, ours) = self.fulfil_and_tell(payout.clone()).await;
            let completed = match verdict {
                Verdict::Fulfilled if ours => Some(client.write_completed(&payout).await),
                _ => None,
            };
            (payout, verdict, completed)
        });
        let mut attempts = pin!(attempts.buffer_unordered(CONCURRENCY));
        while let Some((payout, verdict, completed)) = attempts.next().await {
            match verdict {
                Verdict::Fulfilled => {
                    report.fulfilled.push(payout.id);
                    match completed {
                        Some(completed) => report.add_completed(payout.id, completed),
                        None => others.push(payout),
                    }
                }
                Verdict::Pending | Verdict::NotPending | Verdict::InProgress => {
                    report.left_pending.push(payout.id);
                }
                Verdict::InDoubt => report.in_doubt.push(payout.id),
                verdict => report.failed.push((payout.id, Failure::Verdict(verdict))),
            }
        }

        if !others.is_empty() {
            let spread = OTHERS_FIRST.end - OTHERS_FIRST.start;
            let chance = RandomState::new().hash_one(()) % spread;
            sleep(Duration::from_millis(OTHERS_FIRST.start + chance)).await;
        }
        let completions = stream::iter(others)
            .map(async |payout| (payout.id, client.write_completed(&payout).await));
        let mut completions = pin!(completions.buffer_unordered(CONCURRENCY));
        while let Some((id, completed)) = completions.next().await {
            report.add_completed(id, completed);
        }
        report.sort();
        report
    }
}

/// Reports what [`Webhook::reconcile`] did. `Display` prints a table, with at most 20 ids a line.
///
/// Each pending payout is in one of the lists: `fulfilled`, `left_pending`, `failed` with a verdict,
/// `in_doubt` or `skipped_cash`. [The module](super) has an example.
#[derive(Clone, Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct Reconciliation {
    /// Fulfilled, now or earlier.
    pub fulfilled: Vec<FulfilmentId>,
    /// Completed in FirstPromoter by this run. The rest of `fulfilled` was completed by others, or is
    /// listed in `failed`.
    pub completed: Vec<FulfilmentId>,
    /// Left pending by the handler, younger than a minute, or being fulfilled elsewhere.
    pub left_pending: Vec<FulfilmentId>,
    /// Not fulfilled, or fulfilled and not completed.
    pub failed: Vec<(FulfilmentId, Failure)>,
    /// In doubt: an operator has to resolve it.
    pub in_doubt: Vec<FulfilmentId>,
    /// Cash, which FirstPromoter pays out itself.
    pub skipped_cash: Vec<FulfilmentId>,
    /// How many elements of the list are no payouts that can be read.
    pub unreadable: usize,
    /// Why the list was not read to its end, if it was not. What had been read was worked on.
    pub error: Option<Error>,
}

/// Why a payout is in [`Reconciliation::failed`].
///
/// ```
/// use tower_firstpromoter::{Verdict, api::Failure};
///
/// assert_eq!(Failure::Verdict(Verdict::StoreUnavailable).to_string(), "store_unavailable");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It was not fulfilled, with this verdict.
    Verdict(Verdict),
    /// It is fulfilled, and could not be completed in FirstPromoter.
    NotCompleted(Error),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => f.write_str(verdict.code()),
            Self::NotCompleted(error) => write!(f, "fulfilled, but not completed: {error}"),
        }
    }
}

impl Reconciliation {
    fn add_completed(&mut self, id: FulfilmentId, completed: Result<bool, Error>) {
        match completed {
            Ok(true) => self.completed.push(id),
            Ok(false) => {}
            Err(error) => self.failed.push((id, Failure::NotCompleted(error))),
        }
    }

    fn sort(&mut self) {
        for list in [
            &mut self.fulfilled,
            &mut self.completed,
            &mut self.left_pending,
            &mut self.in_doubt,
            &mut self.skipped_cash,
        ] {
            list.sort_unstable();
        }
        self.failed.sort_by_key(|(id, _)| *id);
    }
}

impl Display for Reconciliation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: Vec<_> = self.failed.iter().map(|(id, _)| *id).collect();
        for (name, ids) in [
            ("fulfilled", &self.fulfilled),
            ("completed", &self.completed),
            ("left pending", &self.left_pending),
            ("failed", &failed),
            ("in doubt", &self.in_doubt),
            ("skipped, cash", &self.skipped_cash),
        ] {
            write!(f, "{name:<14}{:>6}", ids.len())?;
            for (place, id) in ids.iter().take(MOST_SHOWN).enumerate() {
                write!(f, "{}{id}", if place == 0 { "  " } else { ", " })?;
            }
            let more = ids.len().saturating_sub(MOST_SHOWN);
            writeln!(f, "{}", if more > 0 { format!(" and {more} more") } else { String::new() })?;
        }
        writeln!(f, "{:<14}{:>6}", "unreadable", self.unreadable)?;
        for (id, failure) in self.failed.iter().take(MOST_SHOWN) {
            writeln!(f, "{id}: {failure}")?;
        }
        match &self.error {
            Some(error) => writeln!(f, "the list was not read to its end: {error}"),
            None => Ok(()),
        }
    }
}

/// A time that cannot be read counts as old: the store keeps it from being fulfilled twice.
fn is_young(payout: &Fulfilment, now: Timestamp) -> bool {
    let created = payout.details().ok().and_then(|details| details.created_at);
    let created = created.and_then(|created| created.as_str().parse::<Timestamp>().ok());
    // Clocks differ, but a time far in the future is no sign of youth.
    created.is_some_and(|created| now.duration_since(created).abs() < YOUNG)
}
