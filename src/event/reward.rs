use super::{Amount, Unit, lenient::Scalar};

object! {
    /// The rule by which something is earned: `data.reward`, and the four rules of a
    /// [`Campaign`](super::Campaign).
    ///
    /// Its `amount` is `null` or `0` and never the quantity to fulfil; that is
    /// [`Fulfilment::amount`](super::Fulfilment::amount).
    /// [`Fulfilment::details`](super::Fulfilment::details) has an example.
    pub struct Reward {
        /// The rule's own id.
        pub id: Option<u64>,
        /// **Not** the amount that was earned.
        pub amount: Option<Amount>,
        /// What the rule pays for.
        #[serde(rename = "type")]
        pub kind: Option<RewardKind>,
        /// What it pays in.
        pub unit: Option<Unit>,
        /// Its name in the dashboard.
        pub name: Option<String>,
        /// Per cent of a sale.
        pub per_of_sale: Option<Amount>,
        /// The rule's default coupon.
        pub default_promo_code: Option<String>,
    }
}

open_set! {
    /// `reward.type`: what a rule pays for. See [`Reward`].
    pub enum RewardKind {
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
