use std::fmt;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Oddity, oddity};

/// The body of a delivery, in the shape of the real ones: every documented member is there, with
/// invented secrets and an invented person where the real ones have theirs.
///
/// ```
/// use tower_firstpromoter::{event::{Fulfilment, Unit}, testkit::Payload};
///
/// let payload = Payload::new(2429153).amount(3).unit("credits").cust_id("user-7");
///
/// let fulfilment = Fulfilment::decode(payload)?;
/// assert_eq!(fulfilment.unit, Unit::Credits);
/// assert_eq!(fulfilment.promoter.cust_id.as_deref(), Some("user-7"));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Payload {
    id: u64,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Json(Value),
    Raw(Bytes),
}

impl Payload {
    /// The reward with this `data.id`: three free months, for the promoter 5272969 with the
    /// `cust_id` `user-1`. See [`Payload`] for an example.
    pub fn new(id: u64) -> Self {
        Self { id, body: Body::Json(documented(id)) }
    }

    /// What the dashboard's "Test webhook" may send: its real body is unpublished. Nothing in it
    /// can be granted.
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::Payload};
    ///
    /// assert!(Fulfilment::decode(Payload::test_delivery()).is_err());
    /// ```
    pub fn test_delivery() -> Self {
        Self::raw(0, r#"{"event":{"type":"fulfilment_pending"},"data":{"test":true}}"#)
    }

    /// An event of another type, whose `data` looks as if it could be granted.
    ///
    /// ```
    /// use tower_firstpromoter::{event::{DecodeError, Fulfilment}, testkit::Payload};
    ///
    /// let signed_up = Payload::other_event("promoter_signs_up");
    /// assert_eq!(Fulfilment::decode(signed_up).unwrap_err(), DecodeError::OtherEvent);
    /// ```
    pub fn other_event(kind: &str) -> Self {
        Self::new(0).with("/event/type", kind)
    }

    /// Any bytes, sent on behalf of the reward `id`.
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::Payload};
    ///
    /// assert!(Fulfilment::decode(Payload::raw(1, "{")).is_err());
    /// ```
    pub fn raw(id: u64, body: impl Into<Bytes>) -> Self {
        Self { id, body: Body::Raw(body.into()) }
    }

    /// `data.amount`: a number or, as an oddity, anything else.
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::Payload};
    ///
    /// for payload in [Payload::new(1).amount(2.5), Payload::new(1).amount("2.5")] {
    ///     assert_eq!(Fulfilment::decode(payload)?.amount.to_string(), "2.5");
    /// }
    /// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
    /// ```
    pub fn amount(self, amount: impl Into<Value>) -> Self {
        self.with("/data/amount", amount)
    }

    /// `data.unit`. See [`Payload`] for an example.
    pub fn unit(self, unit: &str) -> Self {
        self.with("/data/unit", unit)
    }

    /// `data.promoter.id`.
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::Payload};
    ///
    /// assert_eq!(Fulfilment::decode(Payload::new(1).promoter(7))?.promoter.id.get(), 7);
    /// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
    /// ```
    pub fn promoter(self, id: u64) -> Self {
        self.with("/data/promoter/id", id)
    }

    /// `data.promoter.cust_id`: the application's own id of the user, or `""` for unknown.
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::Payload};
    ///
    /// assert_eq!(Fulfilment::decode(Payload::new(1).cust_id(""))?.promoter.cust_id, None);
    /// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
    /// ```
    pub fn cust_id(self, id: &str) -> Self {
        self.with("/data/promoter/cust_id", id)
    }

    /// Puts the promoter into so many campaigns, at 0.9 KB each.
    ///
    /// ```
    /// use tower_firstpromoter::testkit::Payload;
    ///
    /// assert!(Payload::new(1).promotions(100).to_bytes().len() > 80_000);
    /// ```
    pub fn promotions(self, count: u64) -> Self {
        self.with("/data/promoter/promotions", (0..count).map(promotion).collect::<Vec<_>>())
    }

    /// Sets any member, named by its JSON pointer.
    ///
    /// # Panics
    ///
    /// If the body is not JSON, or what the member would stand in is not an object.
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::Payload};
    ///
    /// let again = Payload::new(1).with("/data/has_issues", true);
    /// assert!(Fulfilment::decode(again)?.has_issues);
    /// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
    /// ```
    #[track_caller]
    pub fn with(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let (members, name) = self.parent(pointer);
        members.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a member out, named by its JSON pointer.
    ///
    /// # Panics
    ///
    /// As [`with`](Payload::with).
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::Payload};
    ///
    /// let old = Payload::new(1).without("/data/has_issues");
    /// assert!(!Fulfilment::decode(old)?.has_issues);
    /// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
    /// ```
    #[track_caller]
    pub fn without(mut self, pointer: &str) -> Self {
        let (members, name) = self.parent(pointer);
        members.remove(name);
        self
    }

    /// Every oddity that the sender's documents and examples show, and what must never be granted,
    /// each as a variant of this reward with an id of its own (this one's + 1, + 2, …).
    ///
    /// ```
    /// use tower_firstpromoter::{event::Fulfilment, testkit::{Expect, Payload}};
    ///
    /// for oddity in Payload::new(1).oddities() {
    ///     if oddity.expect == Expect::Granted {
    ///         assert!(Fulfilment::decode(oddity.payload).is_ok(), "{}", oddity.name);
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If the body is not JSON.
    pub fn oddities(&self) -> impl Iterator<Item = Oddity> {
        oddity::all(self)
    }

    /// `data.id`, whether or not the bytes have it.
    ///
    /// ```
    /// # use tower_firstpromoter::testkit::Payload;
    /// assert_eq!(Payload::raw(7, "{}").id(), 7);
    /// ```
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The bytes, as they go over the wire.
    ///
    /// ```
    /// # use tower_firstpromoter::testkit::Payload;
    /// assert!(Payload::new(1).to_bytes().starts_with(br#"{"event":{"#));
    /// ```
    pub fn to_bytes(&self) -> Bytes {
        match &self.body {
            Body::Json(body) => {
                let mut members: Vec<_> = body.as_object().into_iter().flatten().collect();
                // As documented: the event first, which serde_json's map may not keep so.
                members.sort_by_key(|(name, _)| *name != "event");
                let member = |(name, value): (&String, &Value)| format!("{}:{value}", json!(name));
                let members: Vec<_> = members.into_iter().map(member).collect();
                format!("{{{}}}", members.join(",")).into()
            }
            Body::Raw(bytes) => bytes.clone(),
        }
    }

    /// The same for another reward.
    pub(super) fn renumbered(&self, id: u64) -> Self {
        let mut payload = self.clone().with("/data/id", id);
        if payload.get("/event/id").is_some() {
            payload = payload.with("/event/id", event_id(id));
        }
        payload.id = id;
        payload
    }

    /// The same in another message: another `event.id`.
    pub(super) fn message(mut self, number: u64) -> Self {
        if let Body::Json(body) = &mut self.body {
            if let Some(id) = body.pointer_mut("/event/id") {
                if let Some(first) = id.as_u64() {
                    *id = first.wrapping_add(number).into();
                }
            }
        }
        self
    }

    pub(super) fn get(&self, pointer: &str) -> Option<&Value> {
        match &self.body {
            Body::Json(body) => body.pointer(pointer),
            Body::Raw(_) => None,
        }
    }

    #[track_caller]
    fn parent<'a>(&mut self, pointer: &'a str) -> (&mut serde_json::Map<String, Value>, &'a str) {
        let Body::Json(body) = &mut self.body else { panic!("this payload has no members") };
        let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        match body.pointer_mut(parent) {
            Some(Value::Object(members)) => (members, name),
            _ => panic!("`{parent}` is not an object in this payload"),
        }
    }
}

impl From<Payload> for Bytes {
    fn from(payload: Payload) -> Self {
        payload.to_bytes()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Far enough apart that no two rewards share the id of a message.
fn event_id(id: u64) -> u64 {
    id.wrapping_mul(64).wrapping_add(13_007_875)
}

/// The example of the sender's documentation, with every `null` and `""` filled in that may hold
/// something worth protecting.
fn documented(id: u64) -> Value {
    json!({
        "event": {
            "id": event_id(id),
            "type": "fulfilment_pending",
            "created_at": "2023-08-23T11:06:02.663Z"
        },
        "data": {
            "id": id,
            "status": "pending",
            "amount": 3,
            "date_paid": null,
            "due_date": null,
            "unit": "free_months",
            "created_at": "2023-08-23T11:06:02.607Z",
            "has_issues": false,
            "reward": {
                "id": 109_465,
                "amount": null,
                "type": "per_promotion",
                "unit": "free_months",
                "name": "Free subscription months",
                "per_of_sale": 0,
                "default_promo_code": null
            },
            "promoter": promoter(),
            "campaign": campaign()
        }
    })
}

fn promoter() -> Value {
    json!({
        "id": 5_272_969,
        "status": "active",
        "cust_id": "user-1",
        "email": "promoter@example.com",
        "created_at": "2023-02-08T06:25:28.004Z",
        "temp_password": "invented-password",
        "default_promotion_id": 5_680_057,
        "pref": "i790yc6",
        "default_ref_id": "referralid18",
        "note": "invented note",
        "w8_form_url": null,
        "w9_form_url": "https://forms.example/invented-w9.pdf",
        "parent_promoter_id": null,
        "earnings_balance": { "cash": 882, "free_months": 3 },
        "current_balance": { "cash": 882, "free_months": 3 },
        "paid_balance": null,
        "auth_token": "invented-token-sfCThGt-2",
        "profile": {
            "id": 5_306_304,
            "first_name": "Ingeborg",
            "last_name": "Inventada",
            "website": "https://ingeborg.example",
            "company_name": "Invented Ltd",
            "phone_number": "+44 20 7946 0958",
            "address": "1 Invented Street",
            "vat_id": "GB999999973",
            "country": "GB",
            "paypal_email": "ingeborg@paypal.example",
            "avatar_url": "",
            "description": null,
            "social_accounts": {
                "twitter": { "url": "https://twitter.example/ingeborg" },
                "youtube": { "url": "" },
                "facebook": { "url": "" },
                "linkedin": { "url": "" },
                "instagram": { "url": "" }
            }
        },
        "promotions": []
    })
}

fn campaign() -> Value {
    json!({
        "id": 17_476,
        "name": "Campaign Name",
        "landing_url": "https://www.your-company.example",
        "description": "Private campaign with 2 plans",
        "private": false,
        "color": "#42a5f5",
        "default_webhook_url": "https://app.example/hook?key=invented-webhook-secret",
        "auto_approve_rewards": true,
        "auto_approve_promoters": false,
        "offer": null,
        "referral_reward": {
            "id": 90_548,
            "amount": null,
            "type": "per_referral",
            "unit": "cash",
            "name": "35% recurring commission",
            "per_of_sale": 35,
            "default_promo_code": null
        },
        "promotion_reward": null,
        "target_reward": null
    })
}

fn promotion(number: u64) -> Value {
    let rule = |id: u64, kind: &str| {
        json!({
            "id": id,
            "amount": 0,
            "type": kind,
            "unit": "free_months",
            "name": "Free subscription months",
            "per_of_sale": 0,
            "default_promo_code": ""
        })
    };
    json!({
        "id": 5_680_057 + number,
        "status": "offer_running",
        "ref_id": format!("referralid{number}"),
        "promo_code": "INVENTED10",
        "campaign_id": 17_476 + number,
        "campaign_name": format!("Campaign Name {number}"),
        "referral_link": format!("https://www.your-company.example#_r_referralid{number}"),
        "customer_promo_code": null,
        "target_reached_at": null,
        "visitors_count": 12,
        "leads_count": 3,
        "customers_count": 1,
        "current_referral_reward": rule(90_548, "per_referral"),
        "current_promotion_reward": rule(109_465, "per_promotion"),
        "current_target_reward": rule(109_466, "target")
    })
}
