use serde::Deserialize;

use super::{Reward, Secret, lenient, secret};

/// `data.campaign`: the programme in which the reward was earned. Read by
/// [`Fulfilment::details`](super::Fulfilment::details), where there is an example.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Campaign {
    /// The campaign's id.
    #[serde(deserialize_with = "lenient::number")]
    pub id: Option<u64>,
    /// Its name in the dashboard.
    #[serde(deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// Where its referral links lead.
    #[serde(deserialize_with = "lenient::text")]
    pub landing_url: Option<String>,
    /// Free text.
    #[serde(deserialize_with = "lenient::text")]
    pub description: Option<String>,
    /// Whether promoters join by invitation only.
    #[serde(deserialize_with = "lenient::boolean")]
    pub private: Option<bool>,
    /// A CSS colour.
    #[serde(deserialize_with = "lenient::text")]
    pub color: Option<String>,
    /// The receiver's own webhook URL, echoed with whatever secret stands in it.
    #[serde(deserialize_with = "secret::lenient")]
    pub default_webhook_url: Option<Secret>,
    /// Whether rewards need no approval.
    #[serde(deserialize_with = "lenient::boolean")]
    pub auto_approve_rewards: Option<bool>,
    /// Whether promoters need no approval.
    #[serde(deserialize_with = "lenient::boolean")]
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
