use std::{fmt, time::Duration};

use http::StatusCode;

use crate::{Verdict, event::FulfilmentId};

/// What became of one reward: every delivery of it, and where FirstPromoter leaves it.
///
/// `Display` tells the story in a line. There is an example at
/// [`FirstPromoter::send`](super::FirstPromoter::send).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Course {
    /// What was done to it, or what was odd about it.
    pub name: String,
    /// Which reward.
    pub id: FulfilmentId,
    /// Every delivery, in the order in which they ended.
    pub attempts: Vec<Attempt>,
    /// What FirstPromoter shows in the end.
    pub shown: Shown,
    /// How often it was granted, where an [`audit`](super::FirstPromoter::audit) has counted.
    pub granted: Option<usize>,
    /// What is wrong with that, where an [`audit`](super::FirstPromoter::audit) has judged.
    pub fault: Option<Fault>,
}

/// One delivery of a reward. There is an example at
/// [`FirstPromoter::send`](super::FirstPromoter::send).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// When it was sent, counted from the first one.
    pub at: Duration,
    /// From sending to the end.
    pub took: Duration,
    /// What FirstPromoter heard; `None` if no answer reached it.
    pub status: Option<StatusCode>,
    /// The verdict of the [`Webhook`](crate::Webhook) that answered: from the response's extensions,
    /// else from the code in its body. `None` if something else answered, or nothing.
    pub verdict: Option<Verdict>,
    /// Why it ended so: the verdict's code, or else `no_verdict`, `timed_out`, `hung_up`,
    /// `answer_lost` or `broken_off`.
    pub reason: &'static str,
    /// How often the reward was granted at the moment of the answer `200`, where an
    /// [`audit`](super::FirstPromoter::audit) has counted.
    pub granted: Option<usize>,
}

/// What FirstPromoter shows for a reward.
///
/// ```
/// use tower_firstpromoter::testkit::Shown;
///
/// assert_eq!(Shown::HasIssues.to_string(), "has_issues");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// Answered with `200`: granted, for good.
    Fulfilled,
    /// Answered with another `2xx`, at every fulfilment check.
    Pending,
    /// The last retry of the day was answered with an error, or not at all.
    HasIssues,
}

/// What a receiver did wrong with a reward.
///
/// ```
/// use tower_firstpromoter::testkit::Fault;
///
/// assert_eq!(Fault::GrantedAgain.to_string(), "granted more than once");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It answered `200` while the reward was not granted (not yet, or never).
    UntrueOk,
    /// It granted the reward more than once.
    GrantedAgain,
    /// It granted what must not be granted: a test delivery, another event, a reward that is not
    /// pending, or one from a stranger.
    WronglyGranted,
    /// It granted the reward, but FirstPromoter was left without a `200`, so that it stays open.
    Unconfirmed,
    /// It never granted the reward, although nothing that is needed to grant was missing.
    Lost,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fulfilled => "fulfilled",
            Self::Pending => "pending",
            Self::HasIssues => "has_issues",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UntrueOk => "answered 200 while it was not granted",
            Self::GrantedAgain => "granted more than once",
            Self::WronglyGranted => "granted, which it must not be",
            Self::Unconfirmed => "granted, but FirstPromoter never heard 200 for it",
            Self::Lost => "never granted",
        })
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {}", status.as_u16(), self.reason),
            None => f.write_str(self.reason),
        }
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (reward {}): ", self.name, self.id)?;
        for attempt in &self.attempts {
            write!(f, "{attempt}, ")?;
        }
        write!(f, "shown as {}", self.shown)?;
        if let Some(granted) = self.granted {
            write!(f, ", granted {granted} times")?;
        }
        match self.fault {
            Some(fault) => write!(f, ": {fault}"),
            None => Ok(()),
        }
    }
}
