use std::{convert::Infallible, fmt, str::FromStr};

use super::lenient::Scalar;

open_set! {
    /// `data.unit`: what the amount counts.
    ///
    /// The set is open: a unit unknown to this crate is [`Unit::Other`] with its text. A handler
    /// answers a unit that it does not handle with [`Outcome::Pending`](crate::Outcome::Pending),
    /// which leaves the fulfilment visible in the dashboard.
    ///
    /// ```
    /// use tower_firstpromoter::event::Unit;
    ///
    /// assert_eq!("free_month".parse(), Ok(Unit::FreeMonths));
    /// assert_eq!(Unit::FreeMonths.as_str(), "free_months");
    /// assert_eq!(Unit::from("coffees").to_string(), "coffees");
    /// ```
    pub enum Unit {
        FreeMonths = "free_months" | "free_month",
        Credits = "credits",
        Points = "points",
        /// The one unit that counts cents. FirstPromoter pays it out itself.
        Cash = "cash",
        /// A discount in per cent.
        DiscountPercent = "discount_per",
        /// A discount in money.
        MoneyDiscount = "mon_discount" | "discount_mon",
        Discount = "discount",
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

impl From<Scalar<'_>> for Option<Unit> {
    fn from(value: Scalar<'_>) -> Self {
        Some(Unit::from(&*value.into_text()?))
    }
}
