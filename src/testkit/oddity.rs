use serde_json::{Value, json};

use super::Payload;

/// A variant of a payload.
pub(super) struct Oddity {
    pub(super) name: &'static str,
    pub(super) expect: Expect,
    pub(super) payload: Payload,
}

/// What a correct receiver does with a payload.
#[derive(Clone, Copy)]
pub(super) enum Expect {
    /// Fulfils it: nothing that is needed is missing.
    Fulfilled,
    /// Fulfils it and answers `200`, or does neither: the handler decides.
    HandlerDecides,
    /// Neither fulfils it nor answers `200`.
    Refused,
    /// Does not fulfil it; any answer will do.
    Ignored,
}

use Expect::{Fulfilled, HandlerDecides, Ignored, Refused};

/// The name, what to expect, and how it is made.
type Row = (&'static str, Expect, fn(Payload) -> Payload);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Complete: nothing that is needed is missing, or it is there in another spelling.
    ("an old payload", Fulfilled, |p| p.without("/data/has_issues").without("/data/status").without("/data/promoter/status").without("/data/date_paid").without("/data/due_date").without("/data/promoter/profile")),
    ("ids are strings of digits", Fulfilled, |p| { let p = text(p, "/event/id"); let p = text(p, "/data/id"); text(p, "/data/promoter/id") }),
    ("data.amount is a string", Fulfilled, |p| text(p, "/data/amount")),
    ("data.amount has a fraction of zero", Fulfilled, |p| float(p, "/data/amount")),
    ("data.id needs 63 bits", Fulfilled, |p| { let id = i64::MAX as u64 - p.id(); p.renumbered(id) }),
    ("data comes before event", Fulfilled, |p| { let all = members(&p); Payload::raw(p.id(), format!(r#"{{"data":{},"event":{}}}"#, all["data"], all["event"])) }),
    ("white space everywhere", Fulfilled, |p| Payload::raw(p.id(), format!("\r\n{:#}\r\n", members(&p)))),
    ("unknown members", Fulfilled, |p| p.with("/data/new", json!([{"a": 1}])).with("/event/new", 1).with("/new", true).with("/data/promoter/new", json!({}))),
    ("data.has_issues is true", Fulfilled, |p| p.with("/data/has_issues", true)),
    ("data.status is null", Fulfilled, |p| p.with("/data/status", Value::Null)),
    ("event has a type only", Fulfilled, |p| p.without("/event/id").without("/event/created_at")),
    ("event.created_at is null", Fulfilled, |p| p.with("/event/created_at", Value::Null)),
    ("data.date_paid and data.due_date are dates", Fulfilled, |p| p.with("/data/date_paid", "2023-08-24T00:00:00.000Z").with("/data/due_date", "2023-09-01")),
    ("data.reward is null", Fulfilled, |p| p.with("/data/reward", Value::Null)),
    ("data.reward is absent", Fulfilled, |p| p.without("/data/reward")),
    ("data.reward.amount is 0", Fulfilled, |p| p.with("/data/reward/amount", 0)),
    ("data.reward.amount is another", Fulfilled, |p| p.with("/data/reward/amount", 9999)),
    ("data.reward.type is null", Fulfilled, |p| p.with("/data/reward/type", Value::Null)),
    ("data.campaign is null", Fulfilled, |p| p.with("/data/campaign", Value::Null)),
    ("data.campaign is absent", Fulfilled, |p| p.without("/data/campaign")),
    ("data.campaign has the three members that are always there", Fulfilled, |p| p.with("/data/campaign", json!({"id": 17_476, "name": "Campaign Name", "landing_url": ""}))),
    ("data.campaign.default_webhook_url is empty", Fulfilled, |p| p.with("/data/campaign/default_webhook_url", "")),
    ("data.campaign has a member of another type", Fulfilled, |p| p.with("/data/campaign/color", json!([66, 165, 245])).with("/data/campaign/private", "no")),
    ("the promoter has secrets of null", Fulfilled, |p| p.with("/data/promoter/auth_token", Value::Null).with("/data/promoter/temp_password", Value::Null)),
    ("the promoter has a parent", Fulfilled, |p| p.with("/data/promoter/parent_promoter_id", 5_272_968)),
    ("the promoter has balances below zero", Fulfilled, |p| p.with("/data/promoter/current_balance", json!({"cash": -1250, "credits": -150.5})).with("/data/promoter/pending_balance", json!({"a new unit": -1}))),
    ("the promoter has balances of null", Fulfilled, |p| p.with("/data/promoter/current_balance", Value::Null).with("/data/promoter/earnings_balance", Value::Null)),
    ("the promoter has no balances", Fulfilled, |p| p.without("/data/promoter/current_balance").without("/data/promoter/earnings_balance").without("/data/promoter/paid_balance")),
    ("the promoter has a profile of null", Fulfilled, |p| p.with("/data/promoter/profile", Value::Null)),
    ("the promoter has no profile", Fulfilled, |p| p.without("/data/promoter/profile")),
    ("the promoter has a profile in part", Fulfilled, |p| p.with("/data/promoter/profile", json!({"id": 1, "first_name": null, "last_name": ""}))),
    ("the promoter has an address of two lines", Fulfilled, |p| p.with("/data/promoter/profile/address", "1 Invented Street\r\nSpringfield\u{2028}\u{0}")),
    ("the promoter has no social accounts", Fulfilled, |p| p.with("/data/promoter/profile/social_accounts", json!({}))),
    ("the promoter has social accounts of another type", Fulfilled, |p| p.with("/data/promoter/profile/social_accounts", json!([]))),
    ("the promoter has new social accounts", Fulfilled, |p| p.with("/data/promoter/profile/social_accounts", json!({"tiktok": {"url": "x"}, "twitch": null}))),
    ("the promoter has a name in other letters", Fulfilled, |p| p.with("/data/promoter/profile/first_name", "Łucja 🎁 \"q\" \\ \u{7f}")),
    ("the promoter has no list of promotions", Fulfilled, |p| p.without("/data/promoter/promotions")),
    ("the promoter has promotions of null", Fulfilled, |p| p.with("/data/promoter/promotions", Value::Null)),
    ("the promoter has 3 promotions", Fulfilled, |p| p.promotions(3)),
    ("the promoter has 200 promotions", Fulfilled, |p| p.promotions(200)),

    // Complete, and for the application to decide on: customer, amount, unit.
    ("cust_id is empty", HandlerDecides, |p| p.cust_id("")),
    ("cust_id is null", HandlerDecides, |p| p.with("/data/promoter/cust_id", Value::Null)),
    ("cust_id is absent", HandlerDecides, |p| p.without("/data/promoter/cust_id")),
    ("cust_id is a number", HandlerDecides, |p| p.with("/data/promoter/cust_id", 7)),
    ("email is null", HandlerDecides, |p| p.with("/data/promoter/email", Value::Null)),
    ("email is absent", HandlerDecides, |p| p.without("/data/promoter/email")),
    ("the promoter is blocked", HandlerDecides, |p| p.with("/data/promoter/status", "blocked")),
    ("data.amount is a decimal", HandlerDecides, |p| p.amount(2.5)),
    ("data.amount is a decimal in a string", HandlerDecides, |p| p.amount("2.50")),
    ("data.amount is 0", HandlerDecides, |p| p.amount(0)),
    ("data.amount is below zero", HandlerDecides, |p| p.amount(-3)),
    ("data.amount is huge", HandlerDecides, |p| p.amount(u64::MAX)),
    ("data.unit is free_months", HandlerDecides, |p| p.unit("free_months")),
    ("data.unit is free_month", HandlerDecides, |p| p.unit("free_month")),
    ("data.unit is credits", HandlerDecides, |p| p.unit("credits")),
    ("data.unit is points", HandlerDecides, |p| p.unit("points")),
    ("data.unit is cash", HandlerDecides, |p| p.unit("cash")),
    ("data.unit is discount_per", HandlerDecides, |p| p.unit("discount_per")),
    ("data.unit is mon_discount", HandlerDecides, |p| p.unit("mon_discount")),
    ("data.unit is discount_mon", HandlerDecides, |p| p.unit("discount_mon")),
    ("data.unit is discount", HandlerDecides, |p| p.unit("discount")),
    ("data.unit is a new one", HandlerDecides, |p| p.unit("coffees")),

    // Not pending, or incomplete.
    ("data.status is processing", Refused, |p| p.with("/data/status", "processing")),
    ("data.status is failed", Refused, |p| p.with("/data/status", "failed")),
    ("data.status is cancelled", Refused, |p| p.with("/data/status", "cancelled")),
    ("data.status is completed", Ignored, |p| p.with("/data/status", "completed")),
    ("data.id is absent", Refused, |p| p.without("/data/id")),
    ("data.id is null", Refused, |p| p.with("/data/id", Value::Null)),
    ("data.id is below zero", Refused, |p| p.with("/data/id", -1)),
    ("data.id is a decimal", Refused, |p| p.with("/data/id", 1.5)),
    ("data.amount is absent", Refused, |p| p.without("/data/amount")),
    ("data.amount is null", Refused, |p| p.amount(Value::Null)),
    ("data.amount is a word", Refused, |p| p.amount("three")),
    ("data.unit is absent", Refused, |p| p.without("/data/unit")),
    ("data.unit is empty", Refused, |p| p.unit("")),
    ("data.promoter is absent", Refused, |p| p.without("/data/promoter")),
    ("data.promoter.id is null", Refused, |p| p.with("/data/promoter/id", Value::Null)),
    ("data is absent", Refused, |p| p.without("/data")),
    ("data is an array", Refused, |p| p.with("/data", json!([]))),
    ("event.type is absent", Refused, |p| p.without("/event/type")),
    ("event is null", Refused, |p| p.with("/event", Value::Null)),
    ("a test delivery", Refused, |p| Payload::raw(p.id(), r#"{"event":{"type":"fulfilment_pending"},"data":{"test":true}}"#)),
    ("an empty object", Refused, |p| Payload::raw(p.id(), "{}")),
    ("an empty body", Refused, |p| Payload::raw(p.id(), "")),
    ("half a body", Refused, |p| { let bytes = p.to_bytes(); Payload::raw(p.id(), bytes.slice(..bytes.len() / 2)) }),
    ("two bodies", Refused, |p| Payload::raw(p.id(), [p.to_bytes(), p.to_bytes()].concat())),
    ("not UTF-8", Refused, |p| Payload::raw(p.id(), &b"{\"event\":{\"type\":\"fulfilment_pending\"},\"data\":\"\xff\"}"[..])),

    // Other events to the same URL, some of which look complete.
    ("the event promoter_signs_up", Ignored, |p| p.with("/event/type", "promoter_signs_up")),
    ("the event promoter_accepted", Ignored, |p| p.with("/event/type", "promoter_accepted")),
    ("the event lead_becomes_referral", Ignored, |p| p.with("/event/type", "lead_becomes_referral")),
    ("the event lead_subscribed", Ignored, |p| p.with("/event/type", "lead_subscribed")),
    ("the event reward_created", Ignored, |p| p.with("/event/type", "reward_created")),
    ("an event of the newer webhooks", Ignored, |p| Payload::raw(p.id(), r#"{"event_id":"1","event_type":"commission.updated","action":"update","entity_type":"commission","entity_id":1,"changes":{"status":["pending","approved"]},"data":{"id":1},"timestamp":"2026-01-01T00:00:00Z"}"#)),
];

/// Every oddity that the sender's documents and examples show, and what must never be fulfilled, as
/// variants of `template` with ids that follow its own.
pub(super) fn all(template: &Payload) -> impl Iterator<Item = Oddity> {
    (template.id() + 1..).zip(ROWS).map(|(id, (name, expect, make))| Oddity {
        name,
        expect: *expect,
        payload: make(template.renumbered(id)),
    })
}

fn members(payload: &Payload) -> Value {
    payload.get("").cloned().unwrap_or_default()
}

fn text(payload: Payload, pointer: &str) -> Payload {
    match payload.get(pointer).cloned() {
        Some(Value::Number(number)) => payload.with(pointer, number.to_string()),
        _ => payload,
    }
}

fn float(payload: Payload, pointer: &str) -> Payload {
    match payload.get(pointer).and_then(Value::as_f64) {
        Some(number) => payload.with(pointer, number),
        None => payload,
    }
}
