use std::{error::Error, fmt, str::FromStr};

/// A text is not an id, which is a whole number of at most 64 bits.
///
/// ```
/// use tower_firstpromoter::event::FulfilmentId;
///
/// let error = "-1".parse::<FulfilmentId>().unwrap_err();
/// assert_eq!(error.to_string(), "an id is a whole number, written in digits only");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId(Problem);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NotANumber,
    TooLarge,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Problem::NotANumber => "an id is a whole number, written in digits only",
            Problem::TooLarge => "an id has at most 64 bits",
        })
    }
}

impl Error for InvalidId {}

fn parse(text: &str) -> Result<u64, InvalidId> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidId(Problem::NotANumber));
    }
    // Of digits, too many are all that can be wrong.
    text.parse().map_err(|_| InvalidId(Problem::TooLarge))
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
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// `data.id`: identifies a fulfilment, which is fulfilled at most once.
    ///
    /// It is unique within one FirstPromoter account. (`event.id` is no key: it numbers messages,
    /// and whether a retry keeps it is unpublished.)
    ///
    /// ```
    /// use tower_firstpromoter::event::FulfilmentId;
    ///
    /// let id: FulfilmentId = "2429153".parse()?;
    /// assert_eq!(id.get(), 2429153);
    /// assert_eq!(id.to_string(), "2429153");
    /// # Ok::<(), tower_firstpromoter::event::InvalidId>(())
    /// ```
    FulfilmentId
}

id! {
    /// `data.promoter.id`: who earned it, by FirstPromoter's own numbers.
    ///
    /// ```
    /// use tower_firstpromoter::event::PromoterId;
    ///
    /// assert_eq!(PromoterId::from(5272969).get(), 5272969);
    /// ```
    PromoterId
}
