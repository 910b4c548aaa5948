use std::{convert::Infallible, fmt, str::FromStr};

/// `data.unit`: what the amount counts.
///
/// The set is open: a unit this crate does not know is [`Unit::Other`] with its text, and granting
/// it or not is the handler's decision. A unit that the handler does not handle is best answered
/// with [`Outcome::Pending`](crate::Outcome::Pending), which leaves it visible in the dashboard.
///
/// ```
/// use tower_firstpromoter::event::Unit;
///
/// assert_eq!("free_months".parse(), Ok(Unit::FreeMonths));
/// assert_eq!(Unit::from("coffees").as_str(), "coffees");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// `free_months`, also spelt `free_month`.
    FreeMonths,
    /// `credits`.
    Credits,
    /// `points`.
    Points,
    /// `cash`: the one unit that counts cents. FirstPromoter pays it out itself.
    Cash,
    /// `discount_per`: a discount in per cent.
    DiscountPercent,
    /// `mon_discount`, also spelt `discount_mon`: a discount in money.
    MoneyDiscount,
    /// `discount`.
    Discount,
    /// Any other, as it was sent.
    Other(Box<str>),
}

impl Unit {
    /// As the sender spells it; of two spellings the first one named above.
    ///
    /// ```
    /// # use tower_firstpromoter::event::Unit;
    /// assert_eq!(Unit::from("free_month").as_str(), "free_months");
    /// ```
    pub fn as_str(&self) -> &str {
        match self {
            Self::FreeMonths => "free_months",
            Self::Credits => "credits",
            Self::Points => "points",
            Self::Cash => "cash",
            Self::DiscountPercent => "discount_per",
            Self::MoneyDiscount => "mon_discount",
            Self::Discount => "discount",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for Unit {
    fn from(text: &str) -> Self {
        match text {
            "free_months" | "free_month" => Self::FreeMonths,
            "credits" => Self::Credits,
            "points" => Self::Points,
            "cash" => Self::Cash,
            "discount_per" => Self::DiscountPercent,
            "mon_discount" | "discount_mon" => Self::MoneyDiscount,
            "discount" => Self::Discount,
            other => Self::Other(other.into()),
        }
    }
}

impl FromStr for Unit {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
