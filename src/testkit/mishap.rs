use std::{fmt, time::Duration};

/// What goes wrong on the way while a reward is sent. It happens to the first two deliveries, of
/// which the second keeps the `event.id`, as a retry may or may not; after them all goes well.
///
/// ```
/// use std::time::Duration;
/// use tower_firstpromoter::testkit::Mishap;
///
/// assert_eq!(Mishap::HangUp(Duration::from_secs(2)).to_string(), "the sender hangs up after 2s");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mishap {
    /// Nothing.
    None,
    /// The receiver does its work to the end, and its answer never arrives.
    AnswerLost,
    /// The sender hangs up after this time. The receiver's future is dropped, as servers do.
    HangUp(Duration),
    /// The sender hangs up while the receiver waits for something for the so-many-th time, which
    /// finds the places between two of its steps.
    HangUpAtWait(usize),
    /// The first delivery arrives so many times at once, in two messages.
    Duplicates(usize),
    /// The first delivery arrives once more, long after everything has ended.
    LateCopy,
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
