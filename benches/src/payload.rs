//! The documented delivery, and longer ones.

use std::fmt::Write;

use bytes::Bytes;

const DOCUMENTED: &str = include_str!("../fulfilment.json");
const DOCUMENTED_ID: &str = "2429153";

/// The documented delivery of 2.5 KB, for a reward with this id (of seven digits, so that all of
/// them have one length).
pub fn delivery(id: u64) -> Bytes {
    assert_eq!(id.to_string().len(), DOCUMENTED_ID.len());
    DOCUMENTED.replacen(DOCUMENTED_ID, &id.to_string(), 1).into()
}

/// The same with so many promotions, which is what makes real ones long: 5 KB with three, 60 KB
/// with sixty.
pub fn with_promotions(count: usize) -> Bytes {
    let mut promotions = String::new();
    for n in 0..count {
        let comma = if n == 0 { "" } else { "," };
        write!(
            promotions,
            r#"{comma}
        {{
          "id": {id},
          "status": "offer_inactive",
          "ref_id": "referralid{n}",
          "promo_code": null,
          "target_reached_at": null,
          "promoter_id": 5272969,
          "campaign_id": {campaign},
          "campaign_name": "Campaign Name {n}",
          "referral_link": "https://www.your-company.com?fpr=referralid{n}",
          "current_referral_reward": {{
            "id": 90548,
            "amount": null,
            "type": "per_referral",
            "unit": "cash",
            "name": "35% recurring commission",
            "per_of_sale": 35,
            "default_promo_code": null
          }},
          "current_promotion_reward": null,
          "current_target_reward": null,
          "current_offer": null,
          "hidden": false,
          "visitors_count": 41,
          "leads_count": 6,
          "customers_count": 3,
          "refunds_count": 0
        }}"#,
            id = 5_680_057 + n,
            campaign = 17_476 + n,
        )
        .expect("a string takes all");
    }
    DOCUMENTED.replace(r#""promotions": []"#, &format!(r#""promotions": [{promotions}]"#)).into()
}
