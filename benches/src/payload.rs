//! The documented delivery, and a longer one.

use bytes::Bytes;

const DOCUMENTED: &str = include_str!("../../tests/delivery/documented.json");
const DOCUMENTED_ID: &str = "2429153";

/// The documented delivery of 2.5 KB, for a fulfilment with this id (of seven digits, so that all
/// deliveries have one length).
pub fn delivery(id: u64) -> Bytes {
    assert_eq!(id.to_string().len(), DOCUMENTED_ID.len());
    DOCUMENTED.replacen(DOCUMENTED_ID, &id.to_string(), 1).into()
}

/// The same with promotions, which is what makes real ones long: 60 KB.
pub fn long() -> Bytes {
    let mut delivery: serde_json::Value = serde_json::from_str(DOCUMENTED).expect("JSON");
    let promotion = delivery["data"]["campaign"].clone(); // of about the same members
    delivery["data"]["promoter"]["promotions"] = vec![promotion; 74].into();
    serde_json::to_vec_pretty(&delivery).expect("JSON").into()
}
