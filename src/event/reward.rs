use serde::{Deserialize, Deserializer};

use super::{Amount, Unit, amount, lenient};

/// The rule by which something is earned: `data.reward`, and the four rules of a [`Campaign`].
///
/// Its `amount` is `null` or `0` and never the quantity to grant; that is
/// [`Fulfilment::amount`](super::Fulfilment::amount).
///
/// ```
/// use tower_firstpromoter::event::{Reward, RewardKind};
///
/// let rule: Reward = serde_json::from_str(r#"{"type": "per_referral", "per_of_sale": 35, "amount": null}"#)?;
/// assert_eq!(rule.kind, Some(RewardKind::PerReferral));
/// assert_eq!(rule.amount, None);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// [`Campaign`]: super::Campaign
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Reward {
    /// The rule's own id.
    #[serde(deserialize_with = "lenient::number")]
    pub id: Option<u64>,
    /// **Not** what was earned.
    #[serde(deserialize_with = "amount::lenient")]
    pub amount: Option<Amount>,
    /// What the rule rewards.
    #[serde(rename = "type", deserialize_with = "kind")]
    pub kind: Option<RewardKind>,
    /// What it pays in.
    #[serde(deserialize_with = "unit")]
    pub unit: Option<Unit>,
    /// Its name in the dashboard.
    #[serde(deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// Per cent of a sale.
    #[serde(deserialize_with = "amount::lenient")]
    pub per_of_sale: Option<Amount>,
    /// The coupon that goes with it.
    #[serde(deserialize_with = "lenient::text")]
    pub default_promo_code: Option<String>,
}

/// `reward.type`: what a rule rewards. See [`as_str`](RewardKind::as_str) for an example.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RewardKind {
    /// `per_promotion`.
    PerPromotion,
    /// `per_referral`.
    PerReferral,
    /// `sale`.
    Sale,
    /// `tier`.
    Tier,
    /// `target`.
    Target,
    /// Any other, as it was sent.
    Other(Box<str>),
}

impl RewardKind {
    /// As the sender spells it.
    ///
    /// ```
    /// use tower_firstpromoter::event::RewardKind;
    ///
    /// assert_eq!(RewardKind::from("tier"), RewardKind::Tier);
    /// assert_eq!(RewardKind::from("new_one").as_str(), "new_one");
    /// ```
    pub fn as_str(&self) -> &str {
        match self {
            Self::PerPromotion => "per_promotion",
            Self::PerReferral => "per_referral",
            Self::Sale => "sale",
            Self::Tier => "tier",
            Self::Target => "target",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for RewardKind {
    fn from(text: &str) -> Self {
        match text {
            "per_promotion" => Self::PerPromotion,
            "per_referral" => Self::PerReferral,
            "sale" => Self::Sale,
            "tier" => Self::Tier,
            "target" => Self::Target,
            other => Self::Other(other.into()),
        }
    }
}

fn kind<'de, D: Deserializer<'de>>(input: D) -> Result<Option<RewardKind>, D::Error> {
    Ok(lenient::text(input)?.map(|text| text.as_str().into()))
}

fn unit<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Unit>, D::Error> {
    Ok(lenient::text(input)?.map(|text| text.as_str().into()))
}
