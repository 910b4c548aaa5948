//! Shared by the SQL stores: their errors, and how a row becomes a record.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::{Record, State};
use crate::event::PromoterId;

/// The table, in both databases.
pub(super) const TABLE: &str = "firstpromoter_fulfilments";

/// What can go wrong with a record in SQL; the stores' errors are opaque newtypes of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Sql(sqlx::Error),
    #[error("there is no table {TABLE}: call `create_table`, or add `SCHEMA` to your migrations")]
    NoTable(#[source] Option<sqlx::Error>),
    #[error("the attempt is not recorded: the right to run it was lost")]
    Lost,
    #[error("a record cannot be read: its {0} was not written by this crate")]
    Unreadable(&'static str),
    #[error("the database did not answer in time")]
    TimedOut,
    #[cfg(feature = "postgres")]
    #[error("the database is read-only")]
    ReadOnly,
    #[cfg(feature = "postgres")]
    #[error("a namespace has to be ASCII in a database whose encoding is not UTF-8")]
    Namespace,
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        let no_table = error.as_database_error().is_some_and(|error| {
            let undefined_table = error.code().is_some_and(|code| code == "42P01");
            (undefined_table || error.message().starts_with("no such table"))
                && error.message().contains(TABLE)
        });
        if no_table { Self::NoTable(Some(error)) } else { Self::Sql(error) }
    }
}

/// Waits for `work`, which may be dropped anywhere, at most that long.
pub(super) async fn within<T, E: Into<Problem>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    timeout(limit, work).await.map_err(|_| Problem::TimedOut)?.map_err(Into::into)
}

/// A row as both databases are asked for it: id, unit, amount, promoter, cust_id, state, attempts,
/// reason, and the two times in microseconds since 1970.
pub(super) type Row =
    (String, String, String, String, Option<String>, String, i64, Option<String>, i64, i64);

pub(super) fn record(row: Row) -> Result<Record, Problem> {
    let (id, unit, amount, promoter, cust_id, state, attempts, reason, first_seen, changed) = row;
    Ok(Record {
        id: id.parse().map_err(|_| Problem::Unreadable("id"))?,
        unit: unit.as_str().into(),
        amount: amount.parse().map_err(|_| Problem::Unreadable("amount"))?,
        promoter: parse_promoter(&promoter)?,
        cust_id,
        state: parse_state(&state)?,
        attempts: count(attempts),
        reason,
        first_seen: time(first_seen),
        changed: time(changed),
    })
}

/// Reads what decides on an attempt: state, promoter, attempts.
#[cfg(feature = "postgres")]
pub(super) fn known(row: &sqlx::postgres::PgRow) -> Result<(State, PromoterId, u32), Problem> {
    let (state, promoter, attempts) = sqlx::FromRow::from_row(row)?;
    Ok((parse_state(state)?, parse_promoter(promoter)?, count(attempts)))
}

fn parse_state(text: &str) -> Result<State, Problem> {
    State::parse(text).ok_or(Problem::Unreadable("state"))
}

fn parse_promoter(text: &str) -> Result<PromoterId, Problem> {
    text.parse().map_err(|_| Problem::Unreadable("promoter_id"))
}

fn count(attempts: i64) -> u32 {
    attempts.max(0).try_into().unwrap_or(u32::MAX)
}

/// `LIMIT` for [`Store::open`](super::Store::open).
pub(super) fn limit(limit: usize) -> i64 {
    limit.try_into().unwrap_or(i64::MAX)
}

fn time(micros: i64) -> SystemTime {
    let since = Duration::from_micros(micros.try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The present, in microseconds since 1970.
#[cfg(feature = "sqlite")]
pub(super) fn now() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_micros().try_into().unwrap_or(i64::MAX)
}

/// Quotes a name.
#[cfg(feature = "postgres")]
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text, whatever `standard_conforming_strings` and `client_encoding` say. Outside of a
/// transaction, a pooler may come between a statement and its parameters, so there are none.
#[cfg(feature = "postgres")]
pub(super) fn literal(text: &str) -> String {
    let escaped = text.chars().map(|it| match it {
        '\\' | '\'' => format!("{it}{it}"),
        ' '..='~' => it.into(),
        _ => format!("\\U{:08X}", u32::from(it)),
    });
    format!("E'{}'", escaped.collect::<String>())
}
