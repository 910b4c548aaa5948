//! What the two stores that speak SQL have in common: their errors, and how a row becomes a record.

use std::{
    error::Error as _,
    fmt,
    time::{Duration, SystemTime},
};

use super::{End, Record, State};

/// What can go wrong with a record in SQL.
#[derive(Debug)]
pub(super) enum Problem {
    Sql(sqlx::Error),
    /// The row that was to be written is not the one that was locked.
    Lost,
    /// A row was not written by this crate.
    Unreadable(&'static str),
    /// The process's other grants take their time.
    #[cfg(feature = "sqlite")]
    Busy,
    /// Another process has the lock of plain handlers.
    #[cfg(feature = "sqlite")]
    Elsewhere,
    #[cfg(feature = "sqlite")]
    LockFile(std::io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::Lost => f.write_str("the right to grant this reward was lost"),
            Self::Unreadable(column) => {
                write!(f, "a record cannot be read: its {column} was not written by this crate")
            }
            #[cfg(feature = "sqlite")]
            Self::Busy => f.write_str("the database is busy with another grant"),
            #[cfg(feature = "sqlite")]
            Self::Elsewhere => f.write_str(
                "another process grants with this database, by a handler that does not use its transaction",
            ),
            #[cfg(feature = "sqlite")]
            Self::LockFile(error) => write!(f, "the lock file cannot be used: {error}"),
        }
    }
}

impl Problem {
    /// The error beneath; its text is in this one's already.
    pub(super) fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sql(error) => error.source(),
            #[cfg(feature = "sqlite")]
            Self::LockFile(error) => error.source(),
            _ => None,
        }
    }

    /// Whether somebody else has SQLite's write lock.
    #[cfg(feature = "sqlite")]
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                // Extended codes have the primary one, SQLITE_BUSY or SQLITE_LOCKED, in their low byte.
                let code = error.code().and_then(|code| code.parse::<i32>().ok());
                code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
            }
            _ => false,
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// The row of a reward in doubt, as both databases are asked for it: id, unit, amount, promoter,
/// attempts, last error, and the two times in microseconds since 1970.
pub(super) type Row = (String, String, String, String, i32, Option<String>, i64, i64);

pub(super) fn record(row: Row) -> Result<Record, Problem> {
    let (id, unit, amount, promoter, attempts, last_error, first_seen, changed) = row;
    Ok(Record {
        id: id.parse().map_err(|_| Problem::Unreadable("id"))?,
        unit: unit.as_str().into(),
        amount: amount.parse().map_err(|_| Problem::Unreadable("amount"))?,
        promoter: parse_promoter(&promoter)?,
        state: State::Started,
        attempts: count(attempts),
        last_error,
        first_seen: time(first_seen),
        changed: time(changed),
    })
}

fn parse_promoter(text: &str) -> Result<crate::event::PromoterId, Problem> {
    text.parse().map_err(|_| Problem::Unreadable("promoter_id"))
}

pub(super) fn state(text: &str) -> Result<State, Problem> {
    [State::New, State::Started, State::Granted, State::Pending, State::Failed]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or(Problem::Unreadable("state"))
}

/// What a handler hears that goes on after sqlx has rolled back its transaction.
pub(super) const ENDED: &str = "the transaction has ended: a nested one could not begin, or its beginning was dropped half-way";

pub(super) fn count(attempts: i32) -> u32 {
    attempts.try_into().unwrap_or(0)
}

fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// In microseconds since 1970.
#[cfg(feature = "sqlite")]
pub(super) fn now() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_micros().try_into().unwrap_or(i64::MAX)
}

/// How an end is written down: the state, and the reason if there is one.
pub(super) fn end(end: End) -> (State, Option<String>) {
    match end {
        End::Granted => (State::Granted, None),
        End::Pending => (State::Pending, None),
        End::Failed(reason) => (State::Failed, Some(text(reason))),
    }
}

/// PostgreSQL takes every character but this one, and SQLite's tools stop at it. JSON has it.
pub(super) fn text(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
