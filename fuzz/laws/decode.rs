//! Whatever the bytes, decoding never panics, and what it reads is what stands there.
//!
//! The other reading is `serde_json::Value`'s. It cannot read everything that a fulfilment may hold
//! (half a surrogate pair in a member nobody needs, an array 200 levels deep); then only the first
//! half of the law is checked.

use serde_json::Value;
use tower_firstpromoter::event::{Amount, Fulfilment};

/// Panics if the law does not hold for this body.
pub(crate) fn check(body: &[u8]) {
    if let Ok(text) = std::str::from_utf8(body) {
        amounts_are_exact(text);
    }
    let Ok(fulfilment) = Fulfilment::decode(body.to_vec()) else { return };
    let shown = format!("{fulfilment:?} {:?}", fulfilment.details());

    assert_eq!(fulfilment.as_bytes(), body);
    let again = Fulfilment::decode(fulfilment.as_bytes().clone()).expect("it was one before");
    assert_eq!(shown, format!("{again:?} {:?}", again.details()));
    assert_eq!(fulfilment.promoter, again.promoter);

    // A member of this name makes `Value` read the JSON within a text.
    if memmem(body, b"serde_json::private") {
        return;
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    says_the_same(&fulfilment, &value);
    shows_no_secret(value);
}

fn memmem(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

fn says_the_same(fulfilment: &Fulfilment, value: &Value) {
    let data = &value["data"];
    assert_eq!(value["event"]["type"], "fulfilment_pending");
    assert_eq!(number(&data["id"]), Some(fulfilment.id.get()));
    assert_eq!(number(&data["promoter"]["id"]), Some(fulfilment.promoter.id.get()));
    let unit = data["unit"].as_str().expect("a unit is a text");
    match unit {
        "free_month" => assert_eq!(fulfilment.unit.as_str(), "free_months"),
        "discount_mon" => assert_eq!(fulfilment.unit.as_str(), "mon_discount"),
        unit => assert_eq!(fulfilment.unit.as_str(), unit),
    }
    let amount = match &data["amount"] {
        Value::Number(number) => number.as_f64().expect("a number"),
        Value::String(text) => text.parse().expect("a text that is a number"),
        other => panic!("{other} is no amount"),
    };
    let read: f64 = fulfilment.amount.to_string().parse().expect("a number");
    assert!((read - amount).abs() <= amount.abs() * 1e-12, "{read} {amount}");
    if let Some(whole) = data["amount"].as_u64() {
        assert_eq!(fulfilment.amount.whole(), Some(whole));
    }
    match &data["promoter"]["cust_id"] {
        Value::String(text) if text.is_empty() => assert_eq!(fulfilment.promoter.cust_id, None),
        Value::String(text) => assert_eq!(fulfilment.promoter.cust_id.as_ref(), Some(text)),
        _ => {}
    }
    if let Some(text) = data["status"].as_str() {
        assert_eq!(fulfilment.status.as_str(), if text.is_empty() { "pending" } else { text });
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// What is printed must not depend on any secret: with all of them replaced, it is the same.
fn shows_no_secret(mut value: Value) {
    fn shown(value: &Value) -> Option<String> {
        let fulfilment = Fulfilment::decode(value.to_string()).ok()?;
        Some(format!("{fulfilment:?} {:?}", fulfilment.details()))
    }
    fn replace(value: &mut Value) {
        match value {
            Value::String(text) if !text.is_empty() => *text = "another".to_owned(),
            Value::Array(values) => values.iter_mut().for_each(replace),
            Value::Object(members) => members.values_mut().for_each(replace),
            _ => {}
        }
    }
    let before = shown(&value);
    let data = &mut value["data"];
    if let Some(promoter) = data["promoter"].as_object_mut() {
        for secret in ["email", "cust_id", "auth_token", "temp_password", "note"] {
            promoter.get_mut(secret).into_iter().for_each(replace);
        }
        for secret in ["w8_form_url", "w9_form_url", "profile"] {
            promoter.get_mut(secret).into_iter().for_each(replace);
        }
    }
    if let Some(campaign) = data["campaign"].as_object_mut() {
        campaign.get_mut("default_webhook_url").into_iter().for_each(replace);
    }
    assert_eq!(before, shown(&value));
}

/// Digits are neither rounded nor lost, however the number is written.
fn amounts_are_exact(text: &str) {
    let Ok(amount) = text.parse::<Amount>() else { return };
    assert_eq!(canonical(text), canonical(&amount.to_string()), "{text}");
    assert_eq!(Ok(amount), amount.to_string().parse());
}

/// Sign, digits without zeros at either end, and the power of ten of the last one.
fn canonical(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let exponent: i64 = exponent.parse().expect("an exponent that was read");
    let exponent = exponent - fraction.len() as i64 + (digits.len() - significant.len()) as i64;
    match significant.trim_start_matches('0') {
        "" => (false, String::new(), 0),
        significant => (negative, significant.to_owned(), exponent),
    }
}
