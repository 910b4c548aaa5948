//! "The documented example says more than the types do."
//!
//! FirstPromoter's own example, read member by member, with every type that its documents or the
//! payloads seen in the wild have for one.

use serde_json::{Value, json};
use tower_firstpromoter::event::{
    Amount, DecodeError, Details, Fulfilment, FulfilmentId, InvalidAmount, InvalidId, PromoterId,
    Reward, RewardKind, Secret, Status, Timestamp, Unit,
};

mod delivery;
use delivery::{DOCUMENTED, LEAST, documented, edited};

#[track_caller]
fn read(body: impl Into<bytes::Bytes>) -> Fulfilment {
    Fulfilment::decode(body).expect("a fulfilment")
}

#[track_caller]
fn amount(text: &str) -> Amount {
    text.parse().expect("an amount")
}

#[track_caller]
fn edited_details(pointer: &str, value: Value) -> Details {
    read(edited([(pointer, value)])).details().expect("details")
}

fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref()
}

fn exposed(value: &Option<Secret>) -> Option<&str> {
    value.as_ref().map(Secret::expose)
}

#[test]
fn the_required_members() {
    let fulfilment = read(DOCUMENTED);
    assert_eq!(fulfilment.id, FulfilmentId::from(2429153));
    assert_eq!(fulfilment.amount, amount("3"));
    assert_eq!(fulfilment.unit, Unit::FreeMonths);
    assert_eq!(fulfilment.status, Status::Pending);
    assert!(!fulfilment.has_issues);
    assert_eq!(fulfilment.promoter.id, PromoterId::from(5272969));
    assert_eq!(text(&fulfilment.promoter.email), Some("promoter@example.com"));
    assert_eq!(fulfilment.promoter.cust_id, None, "an empty one is unknown");
    assert_eq!(fulfilment.event.id, Some(13007875));
    let created = fulfilment.event.created_at.as_ref().map(Timestamp::as_str);
    assert_eq!(created, Some("2023-08-23T11:06:02.663Z"));
    assert_eq!(fulfilment.idempotency_key(), "firstpromoter-fulfilment-2429153");
    assert_eq!(fulfilment.as_bytes(), DOCUMENTED.as_bytes(), "the exact bytes");
}

#[test]
fn everything_else() {
    let details = read(DOCUMENTED).details().expect("details");
    let at = |time: &Option<Timestamp>| time.as_ref().map(|time| time.as_str().to_owned());
    assert_eq!(at(&details.created_at).as_deref(), Some("2023-08-23T11:06:02.607Z"));
    assert_eq!(details.date_paid, None);
    assert_eq!(details.due_date, None);

    let rule = details.reward.expect("a rule");
    check_rule(
        &rule,
        109465,
        RewardKind::PerPromotion,
        Unit::FreeMonths,
        "Free subscription months",
        "0",
    );

    let promoter = details.promoter;
    assert_eq!(text(&promoter.status), Some("active"));
    assert_eq!(at(&promoter.created_at).as_deref(), Some("2023-02-08T06:25:28.004Z"));
    assert_eq!(promoter.temp_password, None);
    assert_eq!(exposed(&promoter.auth_token), Some("2-5P1Shfk2nnKaZrYFZExh-sfCThGt-2"));
    assert_eq!(promoter.default_promotion_id, Some(5680057));
    assert_eq!(exposed(&promoter.pref), Some("i790yc6"));
    assert_eq!(exposed(&promoter.default_ref_id), Some("referralid18"));
    assert_eq!(promoter.note, None);
    assert_eq!(promoter.w8_form_url, None);
    assert_eq!(promoter.w9_form_url, None);
    assert_eq!(promoter.parent_promoter_id, None);
    for balances in [promoter.earnings_balance, promoter.current_balance] {
        let balances = balances.expect("balances");
        assert_eq!(balances.get(&Unit::Cash), Some(amount("882")));
        assert_eq!(balances.get(&Unit::FreeMonths), Some(amount("3")));
        assert_eq!(balances.iter().count(), 2);
    }
    assert_eq!(promoter.paid_balance, None);
    assert_eq!(promoter.pending_balance, None);
    assert!(promoter.promotions.is_empty());

    let profile = promoter.profile.expect("a profile");
    assert_eq!(profile.id, Some(5306304));
    assert_eq!(exposed(&profile.first_name), Some("Promoter"));
    assert_eq!(exposed(&profile.last_name), Some("Name"));
    for empty in [
        &profile.website,
        &profile.company_name,
        &profile.phone_number,
        &profile.address,
        &profile.vat_id,
        &profile.country,
        &profile.paypal_email,
        &profile.avatar_url,
        &profile.description,
    ] {
        assert_eq!(exposed(empty), None);
    }
    assert!(profile.social_accounts.is_empty(), "five sites, and no address on any");

    let campaign = details.campaign.expect("a campaign");
    assert_eq!(campaign.id, Some(17476));
    assert_eq!(text(&campaign.name), Some("Campaign Name"));
    assert_eq!(text(&campaign.landing_url), Some("https://www.your-company.com"));
    assert_eq!(text(&campaign.description), Some("Private campaign with 2 plans"));
    assert_eq!(campaign.private, Some(false));
    assert_eq!(text(&campaign.color), Some("#42a5f5"));
    assert_eq!(exposed(&campaign.default_webhook_url), Some("https://your-webhook-url.com"));
    assert_eq!(campaign.auto_approve_rewards, Some(true));
    assert_eq!(campaign.auto_approve_promoters, Some(false));
    assert!(campaign.offer.is_none());
    let rule = campaign.referral_reward.expect("a rule");
    check_rule(&rule, 90548, RewardKind::PerReferral, Unit::Cash, "35% recurring commission", "35");
    assert!(campaign.promotion_reward.is_none());
    assert!(campaign.target_reward.is_none());
}

#[track_caller]
fn check_rule(rule: &Reward, id: u64, kind: RewardKind, unit: Unit, name: &str, per_cent: &str) {
    assert_eq!(rule.id, Some(id));
    assert_eq!(rule.amount, None, "a rule's amount is never the quantity");
    assert_eq!(rule.kind, Some(kind));
    assert_eq!(rule.unit, Some(unit));
    assert_eq!(text(&rule.name), Some(name));
    assert_eq!(rule.per_of_sale, Some(amount(per_cent)));
    assert_eq!(rule.default_promo_code, None);
}

/// A member of which the example has only an empty form, with a real value in it.
#[test]
fn what_the_example_leaves_empty() {
    let promoter =
        |member: &str, value| edited_details(&format!("/data/promoter/{member}"), value).promoter;
    assert_eq!(
        exposed(&promoter("temp_password", json!("hunter2")).temp_password),
        Some("hunter2")
    );
    assert_eq!(exposed(&promoter("note", json!("a\r\nb")).note), Some("a\r\nb"));
    assert_eq!(exposed(&promoter("w8_form_url", json!("u")).w8_form_url), Some("u"));
    assert_eq!(exposed(&promoter("w9_form_url", json!("u")).w9_form_url), Some("u"));
    assert_eq!(promoter("parent_promoter_id", json!(7)).parent_promoter_id, Some(7));
    let paid =
        promoter("paid_balance", json!({"cash": -882, "tea": 2.5, "odd": "x", "none": null}));
    let paid = paid.paid_balance.expect("balances");
    let paid: Vec<_> = paid.iter().map(|(unit, amount)| format!("{unit}={amount}")).collect();
    assert_eq!(paid, ["cash=-882", "tea=2.5"]);

    let accounts =
        json!({ "tiktok": { "url": "https://t.example" }, "x": { "url": "" }, "y": "", "z": null });
    let profile = promoter("profile/social_accounts", accounts).profile.expect("a profile");
    let accounts: Vec<_> =
        profile.social_accounts.iter().map(|(site, url)| (&**site, url.expose())).collect();
    assert_eq!(accounts, [("tiktok", "https://t.example")]);

    let promotion = json!({
        "id": 5680057, "status": "offer_running", "ref_id": "referralid18", "promo_code": "TEA",
        "campaign_id": 17476, "campaign_name": "Campaign Name", "referral_link": "https://r.example",
        "target_reached_at": "2023-02-08T06:25:28.004Z",
        "current_referral_reward": { "id": 1 }, "current_promotion_reward": { "id": 2 },
        "current_target_reward": { "id": 3, "type": "target" },
    });
    let promotions = promoter("promotions", json!([null, promotion, [], {}])).promotions;
    assert_eq!(promotions.len(), 2, "what is no object is left out");
    let promotion = &promotions[0];
    assert_eq!(promotion.id, Some(5680057));
    assert_eq!(text(&promotion.status), Some("offer_running"));
    assert_eq!(exposed(&promotion.ref_id), Some("referralid18"));
    assert_eq!(exposed(&promotion.promo_code), Some("TEA"));
    assert_eq!(promotion.campaign_id, Some(17476));
    assert_eq!(text(&promotion.campaign_name), Some("Campaign Name"));
    assert_eq!(exposed(&promotion.referral_link), Some("https://r.example"));
    assert!(promotion.target_reached_at.is_some());
    let ids = [
        &promotion.current_referral_reward,
        &promotion.current_promotion_reward,
        &promotion.current_target_reward,
    ];
    assert_eq!(ids.map(|rule| rule.as_ref().and_then(|rule| rule.id)), [Some(1), Some(2), Some(3)]);

    let tier = edited_details(
        "/data/campaign/offer",
        json!({ "type": "tier", "default_promo_code": "TEA" }),
    );
    let offer = tier.campaign.and_then(|campaign| campaign.offer).expect("an offer");
    assert_eq!(offer.kind, Some(RewardKind::Tier));
    assert_eq!(text(&offer.default_promo_code), Some("TEA"));
    for member in ["date_paid", "due_date"] {
        let details = edited_details(&format!("/data/{member}"), json!("2023-08-23"));
        let time = if member == "date_paid" { details.date_paid } else { details.due_date };
        assert_eq!(time.as_ref().map(Timestamp::as_str), Some("2023-08-23"));
    }
}

#[test]
fn ids() {
    for (sent, expected) in [
        ("1", Some(1)),
        ("0", Some(0)),
        ("9007199254740993", Some(9007199254740993)), // a double would have lost the last digit
        ("18446744073709551615", Some(u64::MAX)),
        ("\"2429153\"", Some(2429153)),
        ("\"18446744073709551615\"", Some(u64::MAX)),
        ("\"\\u0037\"", Some(7)),
        ("18446744073709551616", None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("1e400", None),
        ("\"+1\"", None),
        ("\" 1\"", None),
        ("\"1_000\"", None),
        ("\"12a\"", None),
        ("\"١\"", None),
        ("true", None),
        ("[1]", None),
        ("{}", None),
    ] {
        let body = |member: &str| {
            let (before, after) =
                LEAST.split_once(&format!("{{\"id\":{member}")).expect("it is there");
            format!("{before}{{\"id\":{sent}{after}")
        };
        let wrong = |what| Err(DecodeError::NotAFulfilment(what));
        let id = Fulfilment::decode(body("1")).map(|fulfilment| fulfilment.id.get());
        assert_eq!(id, expected.map_or(wrong("data.id is not a whole number"), Ok), "{sent}");
        let id = Fulfilment::decode(body("7")).map(|fulfilment| fulfilment.promoter.id.get());
        assert_eq!(
            id,
            expected.map_or(wrong("data.promoter.id is not a whole number"), Ok),
            "{sent}"
        );
    }
}

#[test]
fn amounts() {
    for (sent, expected, whole, positive) in [
        ("3", "3", Some(3), true),
        ("\"3\"", "3", Some(3), true),
        ("3.0", "3.0", Some(3), true),
        ("2.50", "2.50", None, true),
        ("\"2.50\"", "2.50", None, true),
        ("0", "0", Some(0), false),
        ("0.0", "0.0", Some(0), false),
        ("-0", "0", Some(0), false),
        ("-12", "-12", None, false),
        ("\"-12.25\"", "-12.25", None, false),
        ("1e2", "100", Some(100), true),
        ("2.5E-1", "0.25", None, true),
        ("18446744073709551615", "18446744073709551615", Some(u64::MAX), true),
        ("18446744073709551616", "18446744073709551616", None, true),
        ("0.1234567890123456789012345678", "0.1234567890123456789012345678", None, true),
        ("9999999999999999999999999999", "9999999999999999999999999999", None, true),
    ] {
        let fulfilment = read(LEAST.replace("\"amount\":3", &format!("\"amount\":{sent}")));
        assert_eq!(fulfilment.amount.to_string(), expected, "{sent}");
        assert_eq!(fulfilment.amount.whole(), whole, "{sent}");
        assert_eq!(fulfilment.amount.is_positive(), positive, "{sent}");
    }
    for sent in [
        "1e400",
        "1e-400",
        "1e29",
        "99999999999999999999999999999999",
        "\"three\"",
        "\"+3\"",
        "\".5\"",
        "\"1_000\"",
        "\"1,5\"",
        "\" 3\"",
        "\"3 \"",
        "\"NaN\"",
        "\"0x3\"",
        "\"1e\"",
        "\"1e5e5\"",
        "\"--1\"",
        "\"1.2.3\"",
        "true",
        "[3]",
        "{\"value\":3}",
    ] {
        let body = LEAST.replace("\"amount\":3", &format!("\"amount\":{sent}"));
        let expected = DecodeError::NotAFulfilment("data.amount is not a number");
        assert_eq!(Fulfilment::decode(body).err(), Some(expected), "{sent}");
    }
}

#[test]
fn open_sets() {
    for (sent, unit, printed) in [
        ("free_months", Unit::FreeMonths, "free_months"),
        ("free_month", Unit::FreeMonths, "free_months"),
        ("credits", Unit::Credits, "credits"),
        ("points", Unit::Points, "points"),
        ("cash", Unit::Cash, "cash"),
        ("discount_per", Unit::DiscountPercent, "discount_per"),
        ("mon_discount", Unit::MoneyDiscount, "mon_discount"),
        ("discount_mon", Unit::MoneyDiscount, "mon_discount"),
        ("discount", Unit::Discount, "discount"),
        ("Credits", Unit::Other("Credits".into()), "Credits"),
        ("cups of tea ☕", Unit::Other("cups of tea ☕".into()), "cups of tea ☕"),
    ] {
        let found = read(edited([("/data/unit", json!(sent))])).unit;
        assert_eq!((found.to_string(), found), (printed.to_owned(), unit));
    }
    for (sent, status) in [
        (json!("pending"), Status::Pending),
        (json!(""), Status::Pending),
        (json!(null), Status::Pending),
        (json!(7), Status::Pending),
        (json!("processing"), Status::Processing),
        (json!("completed"), Status::Completed),
        (json!("failed"), Status::Failed),
        (json!("cancelled"), Status::Cancelled),
        (json!("canceled"), Status::Other("canceled".into())),
    ] {
        assert_eq!(read(edited([("/data/status", sent.clone())])).status, status, "{sent}");
    }
    for kind in ["per_promotion", "per_referral", "sale", "tier", "target", "moon_phase"] {
        let rule = edited_details("/data/reward/type", json!(kind)).reward.expect("a rule");
        let found = rule.kind.expect("a kind");
        assert_eq!(found.as_str(), kind);
        assert_eq!(matches!(found, RewardKind::Other(_)), kind == "moon_phase");
    }
}

#[test]
fn the_promoter() {
    for (sent, expected) in [
        (json!("user-42"), Some("user-42")),
        (json!("ünïcödé \" \n"), Some("ünïcödé \" \n")),
        (json!(42), Some("42")),
        (json!(-42), Some("-42")),
        (json!(18446744073709551615_u64), Some("18446744073709551615")),
        (json!(" "), Some(" ")),
        (json!(""), None),
        (json!(null), None),
        (json!(false), None),
        (json!([]), None),
        (json!({ "id": 42 }), None),
    ] {
        for (pointer, email) in [("/data/promoter/cust_id", false), ("/data/promoter/email", true)]
        {
            let promoter = read(edited([(pointer, sent.clone())])).promoter;
            let found = if email { promoter.email } else { promoter.cust_id };
            assert_eq!(text(&found), expected, "{pointer} {sent}");
        }
    }
}

#[test]
fn has_issues_only_if_it_says_so() {
    for (sent, expected) in
        [(json!(true), true), (json!(false), false), (json!(null), false), (json!("true"), false)]
    {
        assert_eq!(
            read(edited([("/data/has_issues", sent.clone())])).has_issues,
            expected,
            "{sent}"
        );
    }
    assert!(!read(LEAST).has_issues);
}

/// The members of an object have no order, and the body may be spread over lines or not.
#[test]
fn in_any_order() {
    let Value::Object(members) = documented() else { panic!("it is an object") };
    let (event, data) = (&members["event"], &members["data"]);
    for body in [
        format!(r#"{{"event":{event},"data":{data}}}"#),
        format!(r#"{{"data":{data},"event":{event}}}"#),
        format!("\r\n\t {{ \"new\": [{{}}], \"data\" :{data} , \"event\" : {event}, \"x\":1 }} \n"),
    ] {
        assert_eq!(read(body).id.get(), 2429153);
    }
    let body = format!(r#"{{"data":{data},"event":{{"created_at":null,"type":"other"}}}}"#);
    assert_eq!(Fulfilment::decode(body).err(), Some(DecodeError::OtherEvent));
    for data in [
        r#"["whatever",{"id":-1}]"#,
        "1e400",
        r#""\ud800""#,
        r#"{"id":[],"id":{},"\ud800":1e400,"promoter":1e400}"#,
        r#"{"promoter":{"id":1,"id":2}}"#,
    ] {
        let body = format!(r#"{{"data":{data},"event":{{"type":"other","\ud800":1}},"\ud800":1}}"#);
        assert_eq!(Fulfilment::decode(body).err(), Some(DecodeError::OtherEvent), "{data}");
    }
}

/// A member that occurs twice is ambiguous, unless nobody reads it.
#[test]
fn twice() {
    for (member, expected) in [
        (r#""event":{"type":"fulfilment_pending"},"#, true),
        (r#""data":{},"#, true),
        (r#""unknown":1,"unknown":2,"#, false),
    ] {
        let body = LEAST.replacen('{', &format!("{{{member}"), 1);
        let twice = DecodeError::NotAFulfilment("a member occurs twice");
        assert_eq!(Fulfilment::decode(body).err(), expected.then_some(twice), "{member}");
    }
    for member in ["id", "amount", "unit", "status", "promoter", "has_issues"] {
        let body =
            LEAST.replacen(r#""data":{"#, &format!(r#""data":{{"{member}":1,"{member}":2,"#), 1);
        let found = Fulfilment::decode(body).err();
        assert_eq!(found, Some(DecodeError::NotAFulfilment("a member occurs twice")), "{member}");
    }
    let twice = LEAST.replacen(r#"{"id":7"#, r#"{"id":7,"note":"a","note":"b""#, 1);
    let error = read(twice).details().expect_err("twice");
    assert_eq!(error.to_string(), "the payload's details cannot be read: duplicate field `note`");
    for (data, twice) in [
        (r#""reward":{"id":1,"id":2},"promoter":{"id":7"#, "id"),
        (r#""promoter":{"id":7,"promotions":[{"status":"a","status":"b"}]"#, "status"),
        (r#""promoter":{"id":7,"profile":{"social_accounts":{"x":{"url":1,"url":2}}}"#, "url"),
    ] {
        let body = LEAST.replacen(r#""promoter":{"id":7"#, data, 1);
        let error = read(body).details().expect_err("twice").to_string();
        assert!(error.ends_with(&format!("duplicate field `{twice}`")), "{error}");
    }
}

#[test]
fn exact_messages() {
    use DecodeError::{NotAFulfilment as Wrong, NotJson, OtherEvent};
    for (body, error, message) in [
        ("", NotJson { line: 1, column: 0 }, "the body is not JSON (line 1 column 0)"),
        ("{\n\"event\"", NotJson { line: 2, column: 7 }, "the body is not JSON (line 2 column 7)"),
        ("[]", Wrong("the body is not an object"), "the body is not an object"),
        ("null", Wrong("the body is not an object"), "the body is not an object"),
        ("1e400", Wrong("the body is not an object"), "the body is not an object"),
        (r#""\ud800""#, Wrong("the body is not an object"), "the body is not an object"),
        ("{\"a\":1}\n x", NotJson { line: 2, column: 2 }, "the body is not JSON (line 2 column 2)"),
        (
            "{\"event\":{},\n\"b\":tru}",
            NotJson { line: 2, column: 8 },
            "the body is not JSON (line 2 column 8)",
        ),
        ("\"fulfilment_pending\"", Wrong("the body is not an object"), "the body is not an object"),
        ("{}", Wrong("event.type is missing"), "event.type is missing"),
        (r#"{"event":[]}"#, Wrong("event.type is missing"), "event.type is missing"),
        (r#"{"event":{"type":""}}"#, Wrong("event.type is missing"), "event.type is missing"),
        (r#"{"event":{"type":7}}"#, Wrong("event.type is not a text"), "event.type is not a text"),
        (r#"{"event":{"type":"x"}}"#, OtherEvent, "event.type is not `fulfilment_pending`"),
        (
            r#"{"event":{"type":"Fulfilment_pending"}}"#,
            OtherEvent,
            "event.type is not `fulfilment_pending`",
        ),
        (r#"{"event":{"type":"fulfilment_pending"}}"#, Wrong("data is missing"), "data is missing"),
        (
            r#"{"event":{"type":"fulfilment_pending"},"data":[]}"#,
            Wrong("data is missing"),
            "data is missing",
        ),
        (
            r#"{"event":{"type":"fulfilment_pending"},"data":1e400}"#,
            Wrong("data or data.promoter is not an object"),
            "data or data.promoter is not an object",
        ),
        (
            r#"{"event":1e400,"data":{"promoter":"\ud800"}}"#,
            Wrong("event.type is missing"),
            "event.type is missing",
        ),
    ] {
        let found = Fulfilment::decode(body).expect_err("refused");
        assert_eq!((found.to_string(), found), (message.to_owned(), error), "{body}");
    }
    for (member, missing, wrong) in [
        ("/data/id", "data.id is missing", "data.id is not a whole number"),
        ("/data/amount", "data.amount is missing", "data.amount is not a number"),
        ("/data/unit", "data.unit is missing", "data.unit is not a text"),
        (
            "/data/promoter/id",
            "data.promoter.id is missing",
            "data.promoter.id is not a whole number",
        ),
        ("/data/promoter", "data.promoter.id is missing", "data.promoter.id is missing"),
    ] {
        for (value, expected) in [
            (json!(null), missing),
            (json!(""), missing),
            (json!([7]), wrong),
            (json!(true), wrong),
        ] {
            let found = Fulfilment::decode(edited([(member, value.clone())])).expect_err("refused");
            assert_eq!(found.to_string(), expected, "{member} {value}");
        }
    }
    let message = |error: InvalidAmount| error.to_string();
    assert_eq!(
        "three".parse::<Amount>().map_err(message),
        Err("an amount is a decimal number of 28 digits, or 29 that fit in 96 bits".to_owned())
    );
    let message = |error: InvalidId| error.to_string();
    let invalid = "an id is a whole number of at most 64 bits, written in digits only";
    for text in ["", "-1", "+1", "1_0", "18446744073709551616"] {
        assert_eq!(
            text.parse::<FulfilmentId>().map_err(message),
            Err(invalid.to_owned()),
            "{text}"
        );
        assert_eq!(text.parse::<PromoterId>().map_err(message), Err(invalid.to_owned()), "{text}");
    }
}

/// Whoever prints it, by accident or for a log, prints nothing that must not be there.
#[test]
fn debug_shows_nothing_private() {
    let mut body = documented();
    let mut secrets = 0;
    let promoter = body["data"]["promoter"].as_object_mut().expect("a promoter");
    for member in
        ["cust_id", "email", "temp_password", "auth_token", "note", "w8_form_url", "w9_form_url"]
    {
        secrets += 1;
        promoter[member] = json!(format!("hush-{secrets}"));
    }
    let profile = promoter["profile"].as_object_mut().expect("a profile");
    for (member, value) in profile.iter_mut() {
        if !["id", "social_accounts"].contains(&&**member) {
            secrets += 1;
            *value = json!(format!("hush-{secrets}"));
        }
    }
    profile["social_accounts"] = json!({ "x": { "url": "hush-x" } });
    body["data"]["campaign"]["default_webhook_url"] = json!("hush-url");

    let fulfilment = read(body.to_string());
    let details = fulfilment.details().expect("details");
    for shown in [
        format!("{fulfilment:?}"),
        format!("{fulfilment:#?}"),
        format!("{details:?}"),
        format!("{details:#?}"),
    ] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(
        format!("{details:?}").matches("[redacted]").count() >= secrets - 2,
        "all of them are there"
    );
    assert_eq!(
        format!("{:?}", read(DOCUMENTED)),
        "Fulfilment { id: FulfilmentId(2429153), amount: Amount(3), unit: FreeMonths, \
         promoter: Promoter { id: PromoterId(5272969), email: Some([redacted]), cust_id: None }, \
         status: Pending, has_issues: false, event: Event { id: Some(13007875), \
         created_at: Some(Timestamp(\"2023-08-23T11:06:02.663Z\")) }, .. }"
    );
}
