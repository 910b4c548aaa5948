use serde::Deserialize;

use super::{
    Amount, Unit,
    lenient::{self, Scalar},
};

/// The rule by which something is earned: `data.reward`, and the four rules of a
/// [`Campaign`](super::Campaign).
///
/// Its `amount` is `null` or `0` and never the quantity to fulfil; that is
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Reward {
    /// The rule's own id.
    #[serde(deserialize_with = "lenient::scalar")]
    pub id: Option<u64>,
    /// **Not** what was earned.
    #[serde(deserialize_with = "lenient::scalar")]
    pub amount: Option<Amount>,
    /// What the rule pays for.
    #[serde(rename = "type", deserialize_with = "lenient::scalar")]
    pub kind: Option<RewardKind>,
    /// What it pays in.
    #[serde(deserialize_with = "lenient::scalar")]
    pub unit: Option<Unit>,
    /// Its name in the dashboard.
    #[serde(deserialize_with = "lenient::scalar")]
    pub name: Option<String>,
    /// Per cent of a sale.
    #[serde(deserialize_with = "lenient::scalar")]
    pub per_of_sale: Option<Amount>,
    /// The coupon that goes with it.
    #[serde(deserialize_with = "lenient::scalar")]
    pub default_promo_code: Option<String>,
}

open_set! {
    /// `reward.type`: what a rule pays for.
    ///
    /// ```
    /// use tower_firstpromoter::event::RewardKind;
    ///
    /// assert_eq!(RewardKind::from("tier"), RewardKind::Tier);
    /// assert_eq!(RewardKind::from("new_one").as_str(), "new_one");
    /// ```
    RewardKind {
        PerPromotion = "per_promotion",
        PerReferral = "per_referral",
        Sale = "sale",
        Tier = "tier",
        Target = "target",
    }
}

impl From<Scalar<'_>> for Option<RewardKind> {
    fn from(value: Scalar<'_>) -> Self {
        Some(RewardKind::from(&*value.into_text()?))
    }
}
