use std::{fmt, str::FromStr};

use rust_decimal::Decimal;

use super::lenient::Scalar;

/// A quantity, exactly as it was sent: `3`, `2.50` or, in a balance, `-12`.
///
/// Counts whole units, except for `cash`, which counts cents. Holds 28 digits, and 29 where they
/// fit in 96 bits (up to 79228162514264337593543950335), of which up to 28 are decimal places.
///
/// ```
/// use tower_firstpromoter::event::Amount;
///
/// let months: Amount = "3".parse()?;
/// assert_eq!(months.whole(), Some(3));
/// assert!(months.is_positive() && !Amount::from(0).is_positive());
///
/// let odd: Amount = "2.50".parse()?;
/// assert_eq!(odd.whole(), None); // neither rounded nor cut off
/// assert_eq!(odd.to_string(), "2.50");
/// assert!("three".parse::<Amount>().is_err());
/// # Ok::<(), tower_firstpromoter::event::InvalidAmount>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Decimal);

impl Amount {
    /// Returns the amount as a whole number, or `None` if it is negative, has a fraction other
    /// than zero, or does not fit.
    ///
    /// Zero is whole, too: check [`is_positive`](Amount::is_positive) before fulfilling.
    pub fn whole(&self) -> Option<u64> {
        if self.0.is_integer() { self.0.try_into().ok() } else { None }
    }

    /// Returns whether the amount is more than zero. FirstPromoter does not document that it always
    /// is.
    pub fn is_positive(&self) -> bool {
        self.0 > Decimal::ZERO
    }
}

impl From<u64> for Amount {
    fn from(units: u64) -> Self {
        Self(units.into())
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        exact(text).map(Self).ok_or(InvalidAmount(()))
    }
}

fn exact(text: &str) -> Option<Decimal> {
    // JSON's grammar and no more: the library also reads `1_000`, `+1` and `.5`.
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !number {
        return None;
    }
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
        return Decimal::from_str_exact(text).ok();
    };
    // `Decimal::from_scientific` would round a mantissa that is too long.
    let mut mantissa = Decimal::from_str_exact(mantissa).ok()?;
    let scale = i64::from(mantissa.scale()).checked_sub(exponent.parse().ok()?)?;
    if let Ok(scale) = u32::try_from(scale) {
        mantissa.set_scale(scale).ok()?;
        return Some(mantissa);
    }
    mantissa.set_scale(0).ok()?;
    let power = 10_i128.checked_pow(u32::try_from(scale.checked_neg()?).ok()?)?;
    mantissa.checked_mul(Decimal::try_from_i128_with_scale(power, 0).ok()?)
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({})", self.0)
    }
}

/// The error of parsing an [`Amount`], which has an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a decimal number of 28 digits, or 29 that fit in 96 bits")]
pub struct InvalidAmount(());

/// Reads a number or a string by its text: a float would lose digits.
impl From<Scalar<'_>> for Option<Amount> {
    fn from(value: Scalar<'_>) -> Self {
        value.into_text()?.parse().ok()
    }
}
