use std::{fmt, time::Duration};

use http::StatusCode;

use crate::{Verdict, event::FulfilmentId};

/// A disturbance of the first two deliveries of a fulfilment; later ones arrive undisturbed.
///
/// The second delivery keeps the `event.id` of the first, as a retry may or may not. See
/// [`FirstPromoter::send`](super::FirstPromoter::send) for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mishap {
    /// None.
    None,
    /// The receiver's answer is lost.
    AnswerLost,
    /// The sender hangs up after this time, and the receiver's future is dropped, as servers do.
    HangUp(Duration),
    /// The sender hangs up when the receiver's future is pending for the n-th time: between two of
    /// its steps.
    HangUpAtWait(usize),
    /// The first delivery arrives this many times at once, with two `event.id`s.
    Duplicates(usize),
    /// The first delivery arrives once more after everything has ended.
    LateCopy,
}

/// The status of a fulfilment at FirstPromoter. See
/// [`FirstPromoter::send`](super::FirstPromoter::send) for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Answered with `200`, or completed by API.
    Completed,
    /// Not sent yet, or answered with another `2xx`.
    Pending,
    /// Pending, and the last of seven retries was answered with an error or not at all. It is not
    /// sent again.
    HasIssues,
}

/// What a receiver did wrong with a fulfilment, found by an [`audit`](super::FirstPromoter::audit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The receiver answered `200` before it fulfilled, or without fulfilling.
    FalseOk,
    /// The receiver fulfilled more than once.
    FulfilledTwice,
    /// The receiver fulfilled what must not be fulfilled: a test delivery, another event, a
    /// fulfilment that is not pending, or one without the secret.
    WronglyFulfilled,
    /// The receiver fulfilled and never answered `200`, so that the fulfilment stays pending.
    NoOk,
    /// The receiver never fulfilled, although the delivery was complete.
    Lost,
}

/// One delivery of a fulfilment. See [`FirstPromoter::send`](super::FirstPromoter::send) for an
/// example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// When it was sent, from the first one.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// The answer's status; `None` if no answer reached FirstPromoter.
    pub status: Option<StatusCode>,
    /// The verdict of the [`Webhook`](crate::Webhook) that answered, from the response's extensions or
    /// the code in its body.
    pub verdict: Option<Verdict>,
    /// How it ended: the verdict's code, or else `no_verdict`, `timed_out`, `hung_up`, `answer_lost`
    /// or `broken_off`.
    pub reason: &'static str,
    /// How often it was fulfilled at the moment of a `200`, counted by an
    /// [`audit`](super::FirstPromoter::audit).
    pub fulfilled: Option<usize>,
}

/// The deliveries of one fulfilment, and how they ended. `Display` prints one line.
///
/// See [`FirstPromoter::send`](super::FirstPromoter::send) for an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Case {
    /// The mishap or the oddity.
    pub name: String,
    /// The fulfilment's id.
    pub id: FulfilmentId,
    /// Its deliveries, in the order in which they ended.
    pub deliveries: Vec<Delivery>,
    /// Its status at the end.
    pub status: Status,
    /// How often it was fulfilled, counted by an [`audit`](super::FirstPromoter::audit).
    pub fulfilled: Option<usize>,
    /// What is wrong with that, judged by an [`audit`](super::FirstPromoter::audit).
    pub fault: Option<Fault>,
}

/// The result of an [`audit`](super::FirstPromoter::audit). [The module](super) has an example.
///
/// `Display` prints one line for each fault.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report(pub(super) Vec<Case>);

impl Report {
    /// Returns every case that was tried.
    pub fn cases(&self) -> &[Case] {
        &self.0
    }

    /// Returns the cases with a fault.
    pub fn faults(&self) -> impl Iterator<Item = &Case> {
        self.0.iter().filter(|case| case.fault.is_some())
    }

    /// Asserts that there is no fault.
    ///
    /// # Panics
    ///
    /// If there is one; prints all of them.
    #[track_caller]
    pub fn assert_ok(&self) {
        assert!(self.faults().next().is_none(), "{self}");
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no mishap"),
            Self::AnswerLost => f.write_str("the answer is lost"),
            Self::HangUp(after) => write!(f, "the sender hangs up after {after:?}"),
            Self::HangUpAtWait(wait) => write!(f, "the sender hangs up at wait {wait}"),
            Self::Duplicates(copies) => write!(f, "{copies} deliveries at once"),
            Self::LateCopy => f.write_str("a copy arrives late"),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Completed => "completed",
            Self::Pending => "pending",
            Self::HasIssues => "has_issues",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FalseOk => "answered 200 while it was not fulfilled",
            Self::FulfilledTwice => "fulfilled more than once",
            Self::WronglyFulfilled => "fulfilled, which it must not be",
            Self::NoOk => "fulfilled, but never answered 200",
            Self::Lost => "never fulfilled",
        })
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {}", status.as_u16(), self.reason),
            None => f.write_str(self.reason),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (fulfilment {}): ", self.name, self.id)?;
        for delivery in &self.deliveries {
            write!(f, "{delivery}, ")?;
        }
        write!(f, "left {}", self.status)?;
        if let Some(fulfilled) = self.fulfilled {
            write!(f, ", fulfilled {fulfilled} times")?;
        }
        match self.fault {
            Some(fault) => write!(f, ": {fault}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} cases have a fault", self.faults().count(), self.0.len())?;
        self.faults().try_for_each(|case| write!(f, "\n- {case}"))
    }
}
