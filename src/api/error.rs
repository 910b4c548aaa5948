use std::{fmt, time::Duration};

use crate::event::Status;

/// The longest text of others that an error quotes, in characters.
const LONGEST_QUOTE: usize = 300;

/// An error of FirstPromoter's API, or of reaching it.
///
/// Holds neither the key nor an e-mail address: what the other side wrote is quoted without them.
///
/// ```
/// use std::time::Duration;
/// use tower_firstpromoter::api;
///
/// /// When to ask again.
/// fn wait(error: &api::Error) -> Option<Duration> {
///     match error {
///         api::Error::RateLimited { retry_after } => Some(retry_after.unwrap_or(Duration::from_secs(60))),
///         api::Error::Unavailable(_) => Some(Duration::from_secs(60)),
///         _ => None,
///     }
/// }
/// # assert_eq!(wait(&api::Error::NotFound), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `401` or `403`: the key is wrong, or may not do this.
    #[error("FirstPromoter refused the API key")]
    Unauthorized,
    /// `429`: too many requests.
    #[error("FirstPromoter's rate limit is reached{}", After(*.retry_after))]
    RateLimited {
        /// What `Retry-After` says, in seconds or as a date.
        retry_after: Option<Duration>,
    },
    /// `404`: no such payout, or no such address.
    #[error("FirstPromoter answered: not found")]
    NotFound,
    /// `422` or another `4xx`, with the sender's reason: at most 300 characters.
    #[error("FirstPromoter rejected the request: {0}")]
    Rejected(String),
    /// `5xx`, no connection, or no answer in time. A write may have taken effect.
    #[error("FirstPromoter's API is unavailable: {0}")]
    Unavailable(String),
    /// The answer is not what the API documents. A write may have taken effect.
    #[error("FirstPromoter's answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// The account's payout is not the fulfilment it was compared with. Nothing was written, except
    /// where it is [`Mismatch::Answer`].
    #[error("{0}")]
    Mismatch(Mismatch),
}

/// What differs between a fulfilment and the account's payout of the same id.
///
/// ```
/// use tower_firstpromoter::api::Mismatch;
///
/// assert_eq!(Mismatch::Amount.to_string(), "the account's payout has another amount");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The account lists no such payout of this promoter.
    #[error("the account lists no such payout of this promoter")]
    NotListed,
    /// The payout belongs to another promoter.
    #[error("the account's payout belongs to another promoter")]
    Promoter,
    /// The payout has another unit.
    #[error("the account's payout has another unit")]
    Unit,
    /// The payout has another amount.
    #[error("the account's payout has another amount")]
    Amount,
    /// The payout is not pending.
    #[error("the account's payout is not pending but {}", .0.as_str())]
    Status(Status),
    /// The fulfilment is cash, which this crate never completes.
    #[error("cash is paid out by FirstPromoter")]
    Cash,
    /// The answer to the update shows another payout, or one that is not completed.
    #[error("the answer to the update does not show the payout completed")]
    Answer,
}

impl From<Mismatch> for Error {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(mismatch)
    }
}

struct After(Option<Duration>);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(f, "; it asks to wait {} s", wait.as_secs()))
    }
}

/// Quotes a text of others on one line, without `key` and e-mail addresses.
pub(super) fn quote(text: &str, key: &str) -> String {
    let text = text.replace(key, "[redacted]");
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.map(|word| if word.contains('@') { "[redacted]" } else { word });
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_QUOTE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_private() {
        let text = "bad\u{1b}[1m\r\nkey KEY-1: (jane@example.com) is blocked";
        assert_eq!(quote(text, "KEY-1"), "bad [1m key [redacted]: [redacted] is blocked");
        assert_eq!(quote(&"é".repeat(9_000), "k").chars().count(), 300);
    }

    #[test]
    fn the_limit_says_how_long() {
        let text = |retry_after| Error::RateLimited { retry_after }.to_string();
        assert_eq!(text(None), "FirstPromoter's rate limit is reached");
        let wait = Some(Duration::from_secs(7));
        assert_eq!(text(wait), "FirstPromoter's rate limit is reached; it asks to wait 7 s");
    }
}
