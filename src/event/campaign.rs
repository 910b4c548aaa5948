use super::{Reward, Secret};

object! {
    /// `data.campaign`: the campaign in which the fulfilment was earned, decoded by
    /// [`Fulfilment::details`](super::Fulfilment::details), whose page has an example.
    pub struct Campaign {
        /// The campaign's id.
        pub id: Option<u64>,
        /// Its name in the dashboard.
        pub name: Option<String>,
        /// Where its referral links lead.
        pub landing_url: Option<String>,
        /// Free text.
        pub description: Option<String>,
        /// Whether promoters join by invitation only.
        pub private: Option<bool>,
        /// A CSS colour.
        pub color: Option<String>,
        /// The receiver's own webhook URL, with the secret in it.
        pub default_webhook_url: Option<Secret>,
        /// Whether rewards need no approval.
        pub auto_approve_rewards: Option<bool>,
        /// Whether promoters need no approval.
        pub auto_approve_promoters: Option<bool>,
        /// What the referred customer gets.
        pub offer: Option<Reward>,
        /// The rule that pays per referral.
        pub referral_reward: Option<Reward>,
        /// The rule that pays per promotion.
        pub promotion_reward: Option<Reward>,
        /// The rule that pays for reaching a target.
        pub target_reward: Option<Reward>,
    }
}
