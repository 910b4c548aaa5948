//! The whole documented payload as plain derived types: what one would write who wants it all.
#![expect(dead_code, reason = "what is measured is to decode them")]

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct FullDelivery {
    pub event: Event,
    pub data: Data,
}

#[derive(Debug, Deserialize)]
pub struct Event {
    pub id: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub created_at: String,
}

#[derive(Debug, Deserialize)]
pub struct Data {
    pub id: u64,
    pub status: String,
    pub amount: u64,
    pub date_paid: Option<String>,
    pub due_date: Option<String>,
    pub unit: String,
    pub created_at: String,
    pub has_issues: bool,
    pub reward: Option<Reward>,
    pub promoter: Promoter,
    pub campaign: Campaign,
}

#[derive(Debug, Deserialize)]
pub struct Reward {
    pub id: u64,
    pub amount: Option<u64>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub unit: String,
    pub name: String,
    pub per_of_sale: f64,
    pub default_promo_code: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Promoter {
    pub id: u64,
    pub status: Option<String>,
    pub cust_id: Option<String>,
    pub email: String,
    pub created_at: String,
    pub temp_password: Option<String>,
    pub default_promotion_id: Option<u64>,
    pub pref: Option<String>,
    pub default_ref_id: Option<String>,
    pub note: Option<String>,
    pub w8_form_url: Option<String>,
    pub w9_form_url: Option<String>,
    pub parent_promoter_id: Option<u64>,
    pub earnings_balance: Option<BTreeMap<String, i64>>,
    pub current_balance: Option<BTreeMap<String, i64>>,
    pub paid_balance: Option<BTreeMap<String, i64>>,
    pub auth_token: Option<String>,
    pub profile: Option<Profile>,
    #[serde(default)]
    pub promotions: Vec<Promotion>,
}

#[derive(Debug, Deserialize)]
pub struct Profile {
    pub id: u64,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub website: Option<String>,
    pub company_name: Option<String>,
    pub phone_number: Option<String>,
    pub address: Option<String>,
    pub vat_id: Option<String>,
    pub country: Option<String>,
    pub paypal_email: Option<String>,
    pub avatar_url: Option<String>,
    pub description: Option<String>,
    #[serde(default)]
    pub social_accounts: BTreeMap<String, Account>,
}

#[derive(Debug, Deserialize)]
pub struct Account {
    pub url: String,
}

#[derive(Debug, Deserialize)]
pub struct Promotion {
    pub id: u64,
    pub status: String,
    pub ref_id: String,
    pub promo_code: Option<String>,
    pub campaign_id: u64,
    pub campaign_name: String,
    pub referral_link: String,
    pub target_reached_at: Option<String>,
    pub current_referral_reward: Option<Reward>,
    pub current_promotion_reward: Option<Reward>,
    pub current_target_reward: Option<Reward>,
}

#[derive(Debug, Deserialize)]
pub struct Campaign {
    pub id: u64,
    pub name: String,
    pub landing_url: String,
    pub description: Option<String>,
    pub private: Option<bool>,
    pub color: Option<String>,
    pub default_webhook_url: Option<String>,
    pub auto_approve_rewards: Option<bool>,
    pub auto_approve_promoters: Option<bool>,
    pub referral_reward: Option<Reward>,
    pub promotion_reward: Option<Reward>,
    pub target_reward: Option<Reward>,
}
