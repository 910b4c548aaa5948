//! The documented delivery, and a longer one.

use bytes::Bytes;
use serde_json::json;

const DOCUMENTED: &str = include_str!("../../tests/delivery/documented.json");
const DOCUMENTED_ID: &str = "2429153";

/// The documented delivery of 2.5 KB, for a fulfilment with this id (of seven digits, so that all
/// deliveries have one length).
pub fn delivery(id: u64) -> Bytes {
    assert_eq!(id.to_string().len(), DOCUMENTED_ID.len());
    DOCUMENTED.replacen(DOCUMENTED_ID, &id.to_string(), 1).into()
}

/// The same with sixty promotions, which is what makes real ones long: 60 KB.
pub fn long() -> Bytes {
    let reward = json!({
        "id": 90548, "amount": null, "type": "per_referral", "unit": "cash",
        "name": "35% recurring commission", "per_of_sale": 35, "default_promo_code": null,
    });
    let promotion = |n: u64| {
        json!({
            "id": 5_680_057 + n, "status": "offer_inactive", "ref_id": format!("referralid{n}"),
            "promo_code": null, "target_reached_at": null, "promoter_id": 5_272_969,
            "campaign_id": 17_476 + n, "campaign_name": format!("Campaign Name {n}"),
            "referral_link": format!("https://www.your-company.com?fpr=referralid{n}"),
            "current_referral_reward": reward, "current_promotion_reward": null,
            "current_target_reward": null, "current_offer": null, "hidden": false,
            "visitors_count": 41, "leads_count": 6, "customers_count": 3, "refunds_count": 0,
        })
    };
    let mut delivery: serde_json::Value = serde_json::from_str(DOCUMENTED).expect("JSON");
    delivery["data"]["promoter"]["promotions"] = (0..60).map(promotion).collect();
    serde_json::to_vec_pretty(&delivery).expect("JSON").into()
}
