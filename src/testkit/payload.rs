use std::fmt;

use bytes::Bytes;
use serde_json::{Value, json};

/// The body of a delivery: every documented member, with invented secrets and an invented promoter.
///
/// ```
/// use tower_firstpromoter::{event::{Fulfilment, Unit}, testkit::Payload};
///
/// let payload = Payload::new(2429153).amount(2.5).unit("credits").promoter(7).cust_id("user-7");
/// let fulfilment = Fulfilment::decode(payload.clone())?;
/// assert_eq!((fulfilment.unit, fulfilment.amount.to_string()), (Unit::Credits, "2.5".into()));
/// assert_eq!(fulfilment.promoter.cust_id.as_deref(), Some("user-7"));
///
/// // Any member, by its JSON pointer; and any bytes at all.
/// let odd = payload.with("/data/has_issues", true).without("/data/campaign");
/// assert!(Fulfilment::decode(odd.to_bytes())?.has_issues);
/// assert!(Fulfilment::decode(Payload::raw(odd.id(), "{")).is_err());
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
    /// Creates the fulfilment with this `data.id`: three free months, for the promoter 5272969 with the
    /// `cust_id` `user-1`.
    pub fn new(id: u64) -> Self {
        Self { id, body: Body::Json(documented(id)) }
    }

    /// Creates a payload of any bytes, counted as the fulfilment `id`.
    pub fn raw(id: u64, body: impl Into<Bytes>) -> Self {
        Self { id, body: Body::Raw(body.into()) }
    }

    /// Sets `data.amount`.
    pub fn amount(self, amount: impl Into<Value>) -> Self {
        self.with("/data/amount", amount)
    }

    /// Sets `data.unit`.
    pub fn unit(self, unit: &str) -> Self {
        self.with("/data/unit", unit)
    }

    /// Sets `data.promoter.id`.
    pub fn promoter(self, id: u64) -> Self {
        self.with("/data/promoter/id", id)
    }

    /// Sets `data.promoter.cust_id`, the application's own id of the user; `""` is unknown.
    pub fn cust_id(self, id: &str) -> Self {
        self.with("/data/promoter/cust_id", id)
    }

    /// Sets the number of the promoter's campaigns, at 0.9 KB each.
    pub(super) fn promotions(self, count: u64) -> Self {
        self.with("/data/promoter/promotions", (0..count).map(promotion).collect::<Vec<_>>())
    }

    /// Sets a member, named by its JSON pointer.
    ///
    /// # Panics
    ///
    /// If the payload is raw, or the member's parent is not an object.
    #[track_caller]
    pub fn with(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let (members, name) = self.parent(pointer);
        members.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a member, named by its JSON pointer.
    ///
    /// # Panics
    ///
    /// As [`with`](Payload::with).
    #[track_caller]
    pub fn without(mut self, pointer: &str) -> Self {
        let (members, name) = self.parent(pointer);
        members.remove(name);
        self
    }

    /// Returns the `data.id` it was created with.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the bytes of the body.
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

    /// Copies it for another fulfilment.
    pub(super) fn renumbered(&self, id: u64) -> Self {
        let mut payload = self.clone().with("/data/id", id);
        if payload.get("/event/id").is_some() {
            payload = payload.with("/event/id", event_id(id));
        }
        payload.id = id;
        payload
    }

    /// Sets another `event.id`.
    pub(super) fn message(self, number: u64) -> Self {
        let Some(first) = self.get("/event/id").and_then(Value::as_u64) else { return self };
        self.with("/event/id", first.wrapping_add(number))
    }

    pub(crate) fn get(&self, pointer: &str) -> Option<&Value> {
        match &self.body {
            Body::Json(body) => body.pointer(pointer),
            Body::Raw(_) => None,
        }
    }

    #[track_caller]
    fn parent<'a>(&mut self, pointer: &'a str) -> (&mut serde_json::Map<String, Value>, &'a str) {
        let Body::Json(body) = &mut self.body else { panic!("a raw payload has no members") };
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

/// Far enough apart that no two fulfilments share an `event.id`.
fn event_id(id: u64) -> u64 {
    id.wrapping_mul(64).wrapping_add(13_007_875)
}

/// The example of the sender's documentation, with every `null` and `""` that may hold a secret filled.
fn documented(id: u64) -> Value {
    json!({
        "event": {
            "id": event_id(id), "type": "fulfilment_pending", "created_at": "2023-08-23T11:06:02.663Z"
        },
        "data": {
            "id": id, "status": "pending", "amount": 3, "unit": "free_months", "has_issues": false,
            "date_paid": null, "due_date": null, "created_at": "2023-08-23T11:06:02.607Z",
            "reward": rule(109_465, "per_promotion", None),
            "promoter": promoter(),
            "campaign": {
                "id": 17_476, "name": "Campaign Name", "description": "Private campaign with 2 plans",
                "landing_url": "https://www.your-company.example", "private": false, "color": "#42a5f5",
                "default_webhook_url": "https://app.example/hook?key=invented-webhook-secret",
                "auto_approve_rewards": true, "auto_approve_promoters": false, "offer": null,
                "referral_reward": {
                    "id": 90_548, "amount": null, "type": "per_referral", "unit": "cash",
                    "name": "35% recurring commission", "per_of_sale": 35, "default_promo_code": null
                },
                "promotion_reward": null, "target_reward": null
            }
        }
    })
}

fn promoter() -> Value {
    json!({
        "id": 5_272_969, "status": "active", "cust_id": "user-1", "email": "promoter@example.com",
        "created_at": "2023-02-08T06:25:28.004Z", "temp_password": "invented-password",
        "auth_token": "invented-token-sfCThGt-2", "default_promotion_id": 5_680_057,
        "pref": "i790yc6", "default_ref_id": "referralid18", "note": "invented note",
        "w8_form_url": null, "w9_form_url": "https://forms.example/invented-w9.pdf",
        "parent_promoter_id": null, "paid_balance": null,
        "earnings_balance": { "cash": 882, "free_months": 3 },
        "current_balance": { "cash": 882, "free_months": 3 },
        "profile": {
            "id": 5_306_304, "first_name": "Ingeborg", "last_name": "Inventada",
            "website": "https://ingeborg.example", "company_name": "Invented Ltd",
            "phone_number": "+44 20 7946 0958", "address": "1 Invented Street",
            "vat_id": "GB999999973", "country": "GB", "paypal_email": "ingeborg@paypal.example",
            "avatar_url": "", "description": null,
            "social_accounts": {
                "twitter": { "url": "https://twitter.example/ingeborg" }, "youtube": { "url": "" },
                "facebook": { "url": "" }, "linkedin": { "url": "" }, "instagram": { "url": "" }
            }
        },
        "promotions": []
    })
}

fn rule(id: u64, kind: &str, amount: Option<u64>) -> Value {
    json!({
        "id": id, "amount": amount, "type": kind, "unit": "free_months",
        "name": "Free subscription months", "per_of_sale": 0, "default_promo_code": null
    })
}

fn promotion(number: u64) -> Value {
    json!({
        "id": 5_680_057 + number, "status": "offer_running", "promo_code": "INVENTED10",
        "ref_id": format!("referralid{number}"), "campaign_id": 17_476 + number,
        "campaign_name": format!("Campaign Name {number}"),
        "referral_link": format!("https://www.your-company.example#_r_referralid{number}"),
        "customer_promo_code": null, "target_reached_at": null,
        "visitors_count": 12, "leads_count": 3, "customers_count": 1,
        "current_referral_reward": rule(90_548, "per_referral", Some(0)),
        "current_promotion_reward": rule(109_465, "per_promotion", Some(0)),
        "current_target_reward": rule(109_466, "target", Some(0))
    })
}
