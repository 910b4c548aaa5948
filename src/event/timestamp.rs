use std::{borrow::Cow, fmt};

use super::lenient::Scalar;

/// A point in time as it was sent, unchecked: RFC 3339, such as `2023-08-23T11:06:02.663Z`.
///
/// Any library of dates parses it: `at.as_str().parse::<jiff::Timestamp>()`, or
/// `chrono::DateTime::parse_from_rfc3339(at.as_str())`.
/// [`Fulfilment::details`](super::Fulfilment::details) has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp(Box<str>);

impl Timestamp {
    /// Returns the text as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Box<str>>> From<T> for Timestamp {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<Scalar<'_>> for Option<Timestamp> {
    fn from(value: Scalar<'_>) -> Self {
        Option::<Cow<'_, str>>::from(value).map(Timestamp::from)
    }
}
