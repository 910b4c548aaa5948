use std::{error::Error, fmt, num::IntErrorKind, str::FromStr};

/// The text is not an id: a whole number of at most 64 bits.
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
    text.parse().map_err(|error: std::num::ParseIntError| {
        InvalidId(match error.kind() {
            IntErrorKind::PosOverflow => Problem::TooLarge,
            _ => Problem::NotANumber,
        })
    })
}

macro_rules! id {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The number itself.
            ///
            /// ```
            #[doc = concat!("use tower_firstpromoter::event::", stringify!($name), ";")]
            ///
            #[doc = concat!("assert_eq!(", stringify!($name), "::from(7).get(), 7);")]
            /// ```
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
    /// `data.id`: the reward that is to be granted, and the key by which it is granted once.
    ///
    /// It is unique within one FirstPromoter account. (`event.id` is not: it numbers messages, and
    /// whether a retry keeps it is unpublished.)
    ///
    /// ```
    /// use tower_firstpromoter::event::FulfilmentId;
    ///
    /// let id: FulfilmentId = "2429153".parse()?;
    /// assert_eq!(id, FulfilmentId::from(2429153));
    /// assert_eq!(id.to_string(), "2429153");
    /// # Ok::<(), tower_firstpromoter::event::InvalidId>(())
    /// ```
    FulfilmentId
}

id! {
    /// `data.promoter.id`: who earned the reward, in FirstPromoter's numbering.
    ///
    /// ```
    /// use tower_firstpromoter::event::PromoterId;
    ///
    /// assert_eq!(PromoterId::from(5272969).get(), 5272969);
    /// ```
    PromoterId
}
