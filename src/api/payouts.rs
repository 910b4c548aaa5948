use std::{collections::HashSet, ops::ControlFlow};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Client, Error, Mismatch};
use crate::event::{Fulfilment, Status, Unit};

/// The most pages that one list is read for: 25,000 payouts at 50 a page.
const MOST_PAGES: u32 = 500;

const PENDING: (&str, &str) = ("status", "pending");

/// What [`Client::pending`] found. [The module](super) has an example.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Pending {
    /// Every pending payout, each once, those in cash included.
    pub payouts: Vec<Fulfilment>,
    /// How many elements of the list lack what a fulfilment needs; they are skipped.
    pub unreadable: usize,
}

impl Client {
    /// Lists what the account holds as pending, in any unit.
    ///
    /// Reads pages until one brings nothing new, 500 at most. A payout that moves to an earlier
    /// page meanwhile is missing. [The module](super) has an example.
    ///
    /// # Errors
    ///
    /// If a page cannot be read.
    pub async fn pending(&self) -> Result<Pending, Error> {
        let (pending, read) = self.read_pending().await;
        read.map(|()| pending)
    }

    /// What could be read, and whether it is all.
    pub(super) async fn read_pending(&self) -> (Pending, Result<(), Error>) {
        let mut pending = Pending::default();
        let read = self.each(&[PENDING], |payout| {
            match payout {
                // If the API ignores the filter, the rest must not be fulfilled.
                Some(payout) if payout.status == Status::Pending => pending.payouts.push(payout),
                Some(_) => {}
                None => pending.unreadable += 1,
            }
            ControlFlow::Continue(())
        });
        let read = read.await;
        (pending, read)
    }

    /// Completes a payout, after checking that the account holds it as pending with the same id,
    /// promoter, unit and amount. [The module](super) has an example.
    ///
    /// For a fulfilment that a handler left [`Pending`](crate::Outcome::Pending) and that is done
    /// now. `payout` is the fulfilment as it was done: the one from its delivery, or one of
    /// [`pending`](Client::pending) whose promoter, unit and amount the application has compared
    /// with its own records.
    ///
    /// A payout that is completed already is left as it is, which is `Ok`. Cash is never completed.
    ///
    /// # Errors
    ///
    /// If the account's payout is another, or is neither pending nor completed: nothing is written.
    /// After [`Unavailable`](Error::Unavailable), [`Unreadable`](Error::Unreadable) or a dropped
    /// future it may be completed or not; calling this again finds out.
    pub async fn complete(&self, payout: &Fulfilment) -> Result<(), Error> {
        self.write_completed(payout).await.map(drop)
    }

    /// Whether it had to be written.
    pub(super) async fn write_completed(&self, expected: &Fulfilment) -> Result<bool, Error> {
        if is_cash(&expected.unit) {
            return Err(Mismatch::Cash.into());
        }
        let pending = self.find(expected, &[PENDING]).await?;
        let found = match pending {
            Some(found) => found,
            None => self.find(expected, &[]).await?.ok_or(Mismatch::NotListed)?,
        };
        match found.status {
            Status::Pending => {}
            Status::Completed => return Ok(false),
            other => return Err(Mismatch::Status(other).into()),
        }
        let id = expected.id.to_string();
        let query = [("id", &*id), ("status", "completed")];
        let answer = self.request(Method::PUT, "/update", &query).await?;
        let answer =
            Fulfilment::from_payout(answer).map_err(|_| Error::Unreadable("it is not a payout"))?;
        let same = answer.id == expected.id && compare(expected, &answer).is_ok();
        if !same || answer.status != Status::Completed {
            return Err(Mismatch::Answer.into());
        }
        Ok(true)
    }

    /// Returns the account's payout with the expected id, promoter, unit and amount, if it is
    /// pending.
    pub(super) async fn find_pending(&self, expected: &Fulfilment) -> Result<(), Error> {
        let found = self.find(expected, &[PENDING]).await?.ok_or(Mismatch::NotListed)?;
        match found.status {
            Status::Pending => Ok(()),
            other => Err(Mismatch::Status(other).into()),
        }
    }

    /// The promoter's payout with the expected id, compared. There is no way to ask for one by id.
    async fn find(
        &self,
        expected: &Fulfilment,
        filter: &[(&str, &str)],
    ) -> Result<Option<Fulfilment>, Error> {
        let promoter = expected.promoter.id.to_string();
        let filter = [&[("promoter_id", &*promoter)], filter].concat();
        let mut found = None;
        let read = self.each(&filter, |payout| match payout {
            Some(payout) if payout.id == expected.id => {
                found = Some(payout);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        read.await?;
        match found {
            Some(found) => compare(expected, &found).map(|()| Some(found)).map_err(Error::from),
            None => Ok(None),
        }
    }

    /// Visits each element of a list once, until told to stop; `None` is one that cannot be read.
    ///
    /// The size of a page and the headers that describe it are undocumented, so a list ends where a
    /// page brings nothing new.
    async fn each(
        &self,
        filter: &[(&str, &str)],
        mut visit: impl FnMut(Option<Fulfilment>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut seen = HashSet::new();
        for page in 1..=MOST_PAGES {
            let page = page.to_string();
            let query = [filter, &[("page", &*page)]].concat();
            let body = self.request(Method::GET, "/list", &query).await?;
            let elements: Vec<&RawValue> = serde_json::from_slice(&body)
                .map_err(|_| Error::Unreadable("it is not a JSON array"))?;
            let before = seen.len();
            for element in elements {
                if seen.insert(identity(element.get()).to_owned()) {
                    let payout = Bytes::copy_from_slice(element.get().as_bytes());
                    if visit(Fulfilment::from_payout(payout).ok()).is_break() {
                        return Ok(());
                    }
                }
            }
            if seen.len() == before {
                return Ok(());
            }
        }
        Err(Error::Unreadable("the list does not end within 500 pages"))
    }
}

pub(super) fn is_cash(unit: &Unit) -> bool {
    unit.as_str().trim().eq_ignore_ascii_case("cash")
}

fn compare(expected: &Fulfilment, found: &Fulfilment) -> Result<(), Mismatch> {
    if found.promoter.id != expected.promoter.id {
        Err(Mismatch::Promoter)
    } else if found.unit != expected.unit {
        Err(Mismatch::Unit)
    } else if found.amount != expected.amount {
        Err(Mismatch::Amount)
    } else {
        Ok(())
    }
}

/// What tells an element from the others: its id, or all of it if it has none.
fn identity(element: &str) -> &str {
    #[derive(Deserialize)]
    struct Known<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let known = serde_json::from_str(element).ok();
    known.and_then(|known: Known<'_>| known.id).map_or(element, RawValue::get)
}
