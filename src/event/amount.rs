use std::{error::Error, fmt, str::FromStr};

use rust_decimal::Decimal;
use serde::Deserializer;

use super::lenient::{self, Scalar};

/// A quantity, kept exactly as it was sent: `3`, `2.50` or, in a balance, `-12`.
///
/// Whole units for everything but `cash`, which counts cents. Up to 28 significant digits.
///
/// ```
/// use tower_firstpromoter::event::Amount;
///
/// let months: Amount = "3".parse()?;
/// assert_eq!(months.whole(), Some(3));
/// assert!(months.is_positive());
///
/// let odd: Amount = "2.50".parse()?;
/// assert_eq!(odd.whole(), None); // neither rounded nor cut off: the handler decides
/// assert_eq!(odd.to_string(), "2.50");
/// # Ok::<(), tower_firstpromoter::event::InvalidAmount>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Decimal);

impl Amount {
    /// The amount as a whole number of units, or `None` if it is negative, has a fraction other
    /// than zero, or does not fit.
    ///
    /// Zero is whole, too, so check [`is_positive`](Amount::is_positive) before granting.
    ///
    /// ```
    /// use tower_firstpromoter::event::Amount;
    ///
    /// assert_eq!("3.00".parse::<Amount>()?.whole(), Some(3));
    /// assert_eq!("-3".parse::<Amount>()?.whole(), None);
    /// # Ok::<(), tower_firstpromoter::event::InvalidAmount>(())
    /// ```
    pub fn whole(&self) -> Option<u64> {
        if self.0.is_integer() { self.0.try_into().ok() } else { None }
    }

    /// Whether it is more than zero. FirstPromoter does not say that it always is.
    ///
    /// ```
    /// # use tower_firstpromoter::event::Amount;
    /// assert!(!Amount::from(0).is_positive());
    /// ```
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
        // Nearly every amount is a few digits, which need no decimal parser.
        if (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
            if let Ok(units) = text.parse::<u64>() {
                return Ok(units.into());
            }
        }
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

/// The text is not a decimal number of at most 28 digits.
///
/// ```
/// use tower_firstpromoter::event::Amount;
///
/// let error = "three".parse::<Amount>().unwrap_err();
/// assert_eq!(error.to_string(), "an amount is a decimal number of at most 28 digits");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAmount(());

impl fmt::Display for InvalidAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount is a decimal number of at most 28 digits")
    }
}

impl Error for InvalidAmount {}

/// From the number's own text (a float would already have lost digits), or from a string of it.
pub(super) fn from_json(value: &Scalar<'_>) -> Option<Amount> {
    match value {
        Scalar::Number(text) => text.parse().ok(),
        Scalar::Text(text) => text.parse().ok(),
        _ => None,
    }
}

pub(super) fn lenient<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Amount>, D::Error> {
    lenient::scalar(input, |value| from_json(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_or_not_at_all() {
        for (text, expected) in [
            ("3", Some("3")),
            ("2.50", Some("2.50")),
            ("-12", Some("-12")),
            ("1.25E+2", Some("125")),
            ("1e28", Some("10000000000000000000000000000")),
            ("1e-28", Some("0.0000000000000000000000000001")),
            ("25e-1", Some("2.5")),
            ("1.9999999999999999999999999999999e0", None),
            ("12345678901234567.12345678901e20", None),
            ("1e29", None),
            ("1e-29", None),
            ("1.5e-4294967295", None),
            ("1e9223372036854775807", None),
            ("1.5e-9223372036854775808", None),
            ("1e99999999999999999999", None),
            ("1e", None),
            ("1e1e1", None),
            ("", None),
            ("-", None),
            ("+1", None),
            ("1_000", None),
            ("NaN", None),
        ] {
            let found = text.parse::<Amount>().ok().map(|amount| amount.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
