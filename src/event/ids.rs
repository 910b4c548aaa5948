use std::{fmt, str::FromStr};

use super::lenient::Scalar;

/// The error of parsing an id, which is a whole number of at most 64 bits. See [`FulfilmentId`] for
/// an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is a whole number of at most 64 bits, written in digits only")]
pub struct InvalidId(());

/// Parses digits; `parse` alone would take a leading `+`.
pub(super) fn parse(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

macro_rules! id {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Returns the number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(id: u64) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self).ok_or(InvalidId(()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Scalar<'_>> for Option<$name> {
            fn from(value: Scalar<'_>) -> Self {
                Option::<u64>::from(value).map($name)
            }
        }
    };
}

id! {
    /// `data.id`: identifies a fulfilment, which is fulfilled at most once.
    ///
    /// It is unique within one FirstPromoter account. (`event.id` is not a key: it numbers
    /// messages, and whether a retry keeps it is unpublished.)
    ///
    /// ```
    /// use tower_firstpromoter::event::FulfilmentId;
    ///
    /// let id: FulfilmentId = "2429153".parse()?;
    /// assert_eq!(id.get(), 2429153);
    /// assert_eq!(id.to_string(), "2429153");
    /// assert!("-1".parse::<FulfilmentId>().is_err());
    /// # Ok::<(), tower_firstpromoter::event::InvalidId>(())
    /// ```
    FulfilmentId
}

id! {
    /// `data.promoter.id`: who earned it, by FirstPromoter's own id. See [`FulfilmentId`] for an
    /// example.
    PromoterId
}
