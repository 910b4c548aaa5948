use serde::Deserialize;

use super::{Reward, Secret, lenient};

/// `data.campaign`: the campaign in which the fulfilment was earned, decoded by
/// [`Fulfilment::details`](super::Fulfilment::details), whose page has an example.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Campaign {
    /// The campaign's id.
    #[serde(deserialize_with = "lenient::scalar")]
    pub id: Option<u64>,
    /// Its name in the dashboard.
    #[serde(deserialize_with = "lenient::scalar")]
    pub name: Option<String>,
    /// Where its referral links lead.
    #[serde(deserialize_with = "lenient::scalar")]
    pub landing_url: Option<String>,
    /// Free text.
    #[serde(deserialize_with = "lenient::scalar")]
    pub description: Option<String>,
    /// Whether promoters join by invitation only.
    #[serde(deserialize_with = "lenient::scalar")]
    pub private: Option<bool>,
    /// A CSS colour.
    #[serde(deserialize_with = "lenient::scalar")]
    pub color: Option<String>,
    /// The receiver's own webhook URL, with the secret in it.
    #[serde(deserialize_with = "lenient::scalar")]
    pub default_webhook_url: Option<Secret>,
    /// Whether rewards need no approval.
    #[serde(deserialize_with = "lenient::scalar")]
    pub auto_approve_rewards: Option<bool>,
    /// Whether promoters need no approval.
    #[serde(deserialize_with = "lenient::scalar")]
    pub auto_approve_promoters: Option<bool>,
    /// What the referred customer gets.
    #[serde(deserialize_with = "lenient::object")]
    pub offer: Option<Reward>,
    /// The rule that pays per referral.
    #[serde(deserialize_with = "lenient::object")]
    pub referral_reward: Option<Reward>,
    /// The rule that pays per promotion.
    #[serde(deserialize_with = "lenient::object")]
    pub promotion_reward: Option<Reward>,
    /// The rule that pays for reaching a target.
    #[serde(deserialize_with = "lenient::object")]
    pub target_reward: Option<Reward>,
}
