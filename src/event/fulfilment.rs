use std::{borrow::Cow, fmt, str};

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    Amount, Details, FulfilmentId, InvalidDetails, Promoter, Timestamp, Unit,
    lenient::{self, Member, Scalar},
};

/// A fulfilment, as a handler receives it: `data` of the payload, with its `event`.
///
/// ```
/// use tower_firstpromoter::event::{DecodeError, Fulfilment, Status, Unit};
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "id": 13007875, "type": "fulfilment_pending" },
///     "data": { "id": 2429153, "amount": 3, "unit": "free_months", "promoter": { "id": 5272969, "cust_id": "" } }
/// }"#)?;
///
/// assert_eq!(fulfilment.unit, Unit::FreeMonths);
/// assert_eq!(fulfilment.amount.whole(), Some(3));
/// assert_eq!(fulfilment.promoter.cust_id, None); // "" means unknown
/// assert_eq!(fulfilment.event.id, Some(13007875));
/// assert_eq!(fulfilment.status, Status::from("pending"));
/// assert_eq!(fulfilment.idempotency_key(), "firstpromoter-fulfilment-2429153");
/// assert!(fulfilment.as_bytes().starts_with(b"{")); // all of it
///
/// let error = Fulfilment::decode(r#"{ "event": { "type": "fulfilment_pending" } }"#).unwrap_err();
/// assert_eq!(error, DecodeError::NotAFulfilment("data is missing"));
/// # Ok::<(), DecodeError>(())
/// ```
///
/// `Debug` shows what is needed to follow a fulfilment through a log: no secret, nothing personal
/// and not the body.
#[derive(Clone)]
#[non_exhaustive]
pub struct Fulfilment {
    /// `data.id`: identifies the fulfilment.
    pub id: FulfilmentId,
    /// `data.amount`: how much is owed.
    pub amount: Amount,
    /// `data.unit`: what the amount counts.
    pub unit: Unit,
    /// `data.promoter`: to whom it is owed.
    pub promoter: Promoter,
    /// `data.status`. A webhook calls its handler for [`Status::Pending`] only.
    pub status: Status,
    /// `data.has_issues`: earlier deliveries ended in errors, so **it may already be fulfilled**.
    pub has_issues: bool,
    /// `event`: the message that carried it.
    pub event: Event,
    bytes: Bytes,
    /// Whether the bytes are those of `data` alone.
    is_payout: bool,
}

/// The message that carried a [`Fulfilment`], whose page has an example. A retry may be another
/// message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// `event.id`. Not a key: whether retries keep it is unpublished.
    pub id: Option<u64>,
    /// `event.created_at`.
    pub created_at: Option<Timestamp>,
}

open_set! {
    /// `data.status`: how far FirstPromoter itself is with the fulfilment. [`Fulfilment`] has an
    /// example.
    pub enum Status {
        /// Also if the payload has no text for it, because the event's type says the same.
        Pending = "pending",
        Processing = "processing",
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

impl Fulfilment {
    /// Decodes the body of a delivery.
    ///
    /// A [`Webhook`](crate::Webhook) does this itself; it is public for tests of handlers. See
    /// [`Fulfilment`] for an example.
    ///
    /// # Errors
    ///
    /// If the body is not JSON, is another event, or lacks a required member.
    pub fn decode(body: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let bytes = body.into();
        let body = match members::<Body<'_>>(&bytes) {
            // The problem may lie in the data of another event, which may be anything.
            Err(problem @ NotAFulfilment(_)) => {
                let event = members::<EventOnly<'_>>(&bytes)?.event;
                event.unwrap_or_default().into_event()?;
                return Err(problem);
            }
            body => body?,
        };
        let event = body.event.unwrap_or_default().into_event()?;
        let data = body.data.ok_or(NotAFulfilment("data is missing"))?;
        let fulfilment = data.into_fulfilment(event)?;
        Ok(Self { bytes, ..fulfilment })
    }

    /// Decodes an object of FirstPromoter's API for payouts, which is shaped as `data` is.
    #[allow(dead_code, reason = "for the feature `api`")]
    pub(crate) fn from_payout(bytes: Bytes) -> Result<Self, DecodeError> {
        let event = Event { id: None, created_at: None };
        let fulfilment = members::<Data<'_>>(&bytes)?.into_fulfilment(event)?;
        Ok(Self { bytes, is_payout: true, ..fulfilment })
    }

    /// Decodes the members of `data` that are not fields of this type.
    ///
    /// Each call decodes them anew, since few handlers need them.
    ///
    /// # Errors
    ///
    /// If one of these members occurs twice.
    ///
    /// ```
    /// # use tower_firstpromoter::event::{Fulfilment, RewardKind, Secret, Unit};
    /// let details = Fulfilment::decode(r#"{
    ///     "event": { "type": "fulfilment_pending" },
    ///     "data": {
    ///         "id": 1, "amount": 3, "unit": "credits", "created_at": "2023-08-23T11:06:02.663Z",
    ///         "promoter": {
    ///             "id": 7, "auth_token": "2-5P1Shf",
    ///             "current_balance": { "credits": -150.5 }, "profile": { "first_name": "Ann" }
    ///         },
    ///         "reward": { "type": "per_referral", "amount": null },
    ///         "campaign": { "name": "Friends", "color": [7] }
    ///     }
    /// }"#)?
    /// .details()?;
    ///
    /// assert_eq!(details.created_at.unwrap().as_str(), "2023-08-23T11:06:02.663Z");
    /// assert_eq!(details.reward.unwrap().kind, Some(RewardKind::PerReferral));
    /// let campaign = details.campaign.unwrap();
    /// assert_eq!(campaign.name.as_deref(), Some("Friends"));
    /// assert_eq!(campaign.color, None); // not a text, so treated as missing
    ///
    /// let promoter = details.promoter;
    /// assert_eq!(format!("{:?}", promoter.auth_token), "Some([redacted])");
    /// assert_eq!(promoter.profile.unwrap().first_name.as_ref().map(Secret::expose), Some("Ann"));
    /// let balances = promoter.current_balance.unwrap();
    /// assert_eq!(balances.get(&Unit::Credits).unwrap().to_string(), "-150.5");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn details(&self) -> Result<Details, InvalidDetails> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(deserialize_with = "lenient::object")]
            data: Option<Details>,
        }
        let text = str::from_utf8(&self.bytes).unwrap_or_default();
        let details = if self.is_payout {
            lenient::members(text)?
        } else {
            lenient::members::<Body>(text)?.and_then(|body| body.data)
        };
        Ok(details.unwrap_or_default())
    }

    /// Returns the body exactly as it came. It includes secrets: keep it out of logs and tables. See
    /// [`Fulfilment`] for an example.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the idempotency key for calls to other services, such as Stripe.
    ///
    /// It is the same for every delivery of this fulfilment. With several FirstPromoter accounts,
    /// prefix it with the account: ids are unique within one. See [`Fulfilment`] for an example.
    pub fn idempotency_key(&self) -> String {
        format!("firstpromoter-fulfilment-{}", self.id)
    }
}

impl fmt::Debug for Fulfilment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fulfilment")
            .field("id", &self.id)
            .field("amount", &self.amount)
            .field("unit", &self.unit)
            .field("promoter", &self.promoter)
            .field("status", &self.status)
            .field("has_issues", &self.has_issues)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// The error of [`Fulfilment::decode`]. [`Fulfilment`] has an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is not JSON.
    #[error("the body is not JSON (line {line} column {column})")]
    NotJson {
        /// The line at which reading stopped, from 1.
        line: usize,
        /// The column at which reading stopped, in bytes from the line's start.
        column: usize,
    },
    /// The body is an event of another type.
    #[error("event.type is not `fulfilment_pending`")]
    OtherEvent,
    /// A required member is missing or invalid; the text says which.
    #[error("{0}")]
    NotAFulfilment(&'static str),
}
use DecodeError::NotAFulfilment;

/// Parses a body that is an object.
fn members<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    let problem = match str::from_utf8(body).map(lenient::members) {
        Ok(Ok(Some(members))) => return Ok(members),
        Ok(Err(error)) if error.is_data() => {
            return Err(NotAFulfilment("a member occurs twice"));
        }
        Ok(Ok(None)) => "the body is not an object",
        // The parser refuses some numbers and strings; those in members are never parsed.
        _ => "data or data.promoter is not an object",
    };
    Err(not_json(body).unwrap_or(NotAFulfilment(problem)))
}

#[cold]
fn not_json(body: &[u8]) -> Option<DecodeError> {
    // The parser passes over bytes that are not UTF-8, so it first gets those before them.
    let text = body.utf8_chunks().next().map_or(&[][..], |chunk| chunk.valid().as_bytes());
    let json = |text| serde_json::from_slice::<IgnoredAny>(text);
    let error = json(text).and_then(|_| json(body)).err()?;
    Some(DecodeError::NotJson { line: error.line(), column: error.column() })
}

// Neither the order of the members nor the types of their values matter here.

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Body<'a> {
    #[serde(deserialize_with = "lenient::object")]
    event: Option<EventMembers<'a>>,
    #[serde(deserialize_with = "lenient::object")]
    data: Option<Data<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct EventMembers<'a> {
    id: Scalar<'a>,
    #[serde(rename = "type")]
    kind: Scalar<'a>,
    created_at: Scalar<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct EventOnly<'a> {
    #[serde(deserialize_with = "lenient::member")]
    event: Option<EventMembers<'a>>,
}

impl<'a> Member<'a> for Option<EventMembers<'a>> {
    fn read(json: &'a RawValue) -> serde_json::Result<Self> {
        lenient::members(json.get())
    }
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Data<'a> {
    id: Scalar<'a>,
    status: Scalar<'a>,
    amount: Scalar<'a>,
    unit: Scalar<'a>,
    has_issues: Scalar<'a>,
    #[serde(deserialize_with = "lenient::object")]
    promoter: Option<PromoterMembers<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct PromoterMembers<'a> {
    id: Scalar<'a>,
    email: Scalar<'a>,
    cust_id: Scalar<'a>,
}

/// Reads a required member, or tells whether it is missing or of another type.
macro_rules! required {
    ($member:expr, $name:literal, $kind:literal) => {
        required($member, concat!($name, " is missing"), concat!($name, " is not ", $kind))
    };
}

fn required<'a, T>(
    member: Scalar<'a>,
    missing: &'static str,
    invalid: &'static str,
) -> Result<T, DecodeError>
where
    Option<T>: From<Scalar<'a>>,
{
    let problem = NotAFulfilment(if member.is_absent() { missing } else { invalid });
    Option::from(member).ok_or(problem)
}

impl EventMembers<'_> {
    fn into_event(self) -> Result<Event, DecodeError> {
        let kind: Cow<'_, str> = required!(self.kind, "event.type", "a text")?;
        if kind != "fulfilment_pending" {
            return Err(DecodeError::OtherEvent);
        }
        Ok(Event { id: self.id.into(), created_at: self.created_at.into() })
    }
}

impl Data<'_> {
    fn into_fulfilment(self, event: Event) -> Result<Fulfilment, DecodeError> {
        let promoter = self.promoter.unwrap_or_default();
        let status: Option<Cow<'_, str>> = self.status.into();
        Ok(Fulfilment {
            id: required!(self.id, "data.id", "a whole number")?,
            amount: required!(self.amount, "data.amount", "a number")?,
            unit: {
                let unit: Cow<'_, str> = required!(self.unit, "data.unit", "a text")?;
                Unit::from(&*unit)
            },
            promoter: Promoter {
                id: required!(promoter.id, "data.promoter.id", "a whole number")?,
                email: promoter.email.into(),
                cust_id: promoter.cust_id.into(),
            },
            status: status.map_or(Status::Pending, |status| Status::from(&*status)),
            has_issues: Option::from(self.has_issues).unwrap_or(false),
            event,
            bytes: Bytes::new(),
            is_payout: false,
        })
    }
}
