use std::fmt;

use super::lenient::Scalar;

/// Text that must not be printed: a credential, or something personal.
///
/// `Debug` shows `[redacted]`, and there is no `Display`. [`expose`](Secret::expose) is the only
/// way to the text, so a search for that word finds every place where it could leak.
///
/// ```
/// use tower_firstpromoter::event::Secret;
///
/// let secret = Secret::from("2-5P1Shfk2nnKaZrYFZExh");
/// assert_eq!(format!("{secret:?}"), "[redacted]");
/// assert_eq!(secret.expose(), "2-5P1Shfk2nnKaZrYFZExh");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Box<str>>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<Scalar<'_>> for Option<Secret> {
    fn from(value: Scalar<'_>) -> Self {
        value.into_text().map(Secret::from)
    }
}
