use std::fmt;

use serde::Deserializer;

use super::lenient;

/// A point in time as it was sent: RFC 3339, such as `2023-08-23T11:06:02.663Z`.
///
/// With the `timestamps` feature, `to_system_time` reads it; `chrono`, `jiff` and `time` all
/// convert from a [`SystemTime`](std::time::SystemTime).
///
/// ```
/// use tower_firstpromoter::event::Timestamp;
///
/// let sent = Timestamp::from("2023-08-23T11:06:02.663Z");
/// assert_eq!(sent.as_str(), "2023-08-23T11:06:02.663Z");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp(Box<str>);

impl Timestamp {
    /// The text, unchecked.
    ///
    /// ```
    /// # use tower_firstpromoter::event::Timestamp;
    /// assert_eq!(Timestamp::from("soon").as_str(), "soon");
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The moment it names, or `None` if it is not an RFC 3339 timestamp.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use tower_firstpromoter::event::Timestamp;
    ///
    /// let sent = Timestamp::from("1970-01-01T00:00:02.500Z").to_system_time();
    /// assert_eq!(sent, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(2500)));
    ///
    /// let zoned = jiff::Timestamp::try_from(sent.unwrap())?; // or chrono's, or time's
    /// assert_eq!(zoned.to_string(), "1970-01-01T00:00:02.5Z");
    /// # Ok::<(), jiff::Error>(())
    /// ```
    #[cfg(feature = "timestamps")]
    #[cfg_attr(docsrs, doc(cfg(feature = "timestamps")))]
    pub fn to_system_time(&self) -> Option<std::time::SystemTime> {
        self.0.parse::<jiff::Timestamp>().ok().map(Into::into)
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

pub(super) fn lenient<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Timestamp>, D::Error> {
    lenient::scalar(input, |value| match value {
        lenient::Scalar::Text(text) if !text.is_empty() => Some(Timestamp(text.into())),
        _ => None,
    })
}
