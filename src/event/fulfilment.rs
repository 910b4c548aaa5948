use std::{error::Error, fmt};

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{
    Amount, Details, FulfilmentId, InvalidDetails, Promoter, PromoterId, Timestamp, Unit, amount,
    lenient::Scalar,
    scan::{Scan, Stop, once},
};

/// A reward that waits to be granted: the sender's `data`, with its `event`.
///
/// ```
/// use tower_firstpromoter::event::{Fulfilment, Unit};
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "id": 13007875, "type": "fulfilment_pending" },
///     "data": { "id": 2429153, "amount": 3, "unit": "free_months", "promoter": { "id": 5272969, "cust_id": "" } }
/// }"#)?;
///
/// assert_eq!(fulfilment.unit, Unit::FreeMonths);
/// assert_eq!(fulfilment.amount.whole(), Some(3));
/// assert_eq!(fulfilment.promoter.cust_id, None); // "" means unknown
/// assert_eq!(fulfilment.idempotency_key(), "firstpromoter-fulfilment-2429153");
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
///
/// `Debug` shows what is needed to follow a delivery through a log: no secret, nothing personal and
/// not the body.
#[derive(Clone)]
#[non_exhaustive]
pub struct Fulfilment {
    /// `data.id`: the key by which the reward is granted once.
    pub id: FulfilmentId,
    /// `data.amount`: how much to grant.
    pub amount: Amount,
    /// `data.unit`: of what.
    pub unit: Unit,
    /// `data.promoter`: to whom.
    pub promoter: Promoter,
    /// `data.status`. A webhook calls its handler for [`Status::Pending`] only.
    pub status: Status,
    /// `data.has_issues`: earlier attempts ended in errors, so **it may already be granted**.
    pub has_issues: bool,
    /// `event`: the message that brought it.
    pub event: Event,
    bytes: Bytes,
}

/// The message that brought a [`Fulfilment`]. A retry may be another message.
///
/// ```
/// # let body = r#"{"event":{"id":9,"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#;
/// let event = tower_firstpromoter::event::Fulfilment::decode(body)?.event;
/// assert_eq!((event.id, event.created_at), (Some(9), None));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// `event.id`. Not a key for anything: whether retries keep it is unpublished.
    pub id: Option<u64>,
    /// `event.created_at`.
    pub created_at: Option<Timestamp>,
}

/// `data.status`: where FirstPromoter itself has the reward. See [`as_str`](Status::as_str) for an
/// example.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// `pending`, and whatever is not a text: the event's type says it is pending.
    Pending,
    /// `processing`.
    Processing,
    /// `completed`.
    Completed,
    /// `failed`.
    Failed,
    /// `cancelled`.
    Cancelled,
    /// Any other, as it was sent.
    Other(Box<str>),
}

impl Status {
    /// As the sender spells it.
    ///
    /// ```
    /// use tower_firstpromoter::event::Status;
    ///
    /// assert_eq!(Status::from("completed"), Status::Completed);
    /// assert_eq!(Status::from("").as_str(), "pending");
    /// ```
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for Status {
    fn from(text: &str) -> Self {
        match text {
            "" | "pending" => Self::Pending,
            "processing" => Self::Processing,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            other => Self::Other(other.into()),
        }
    }
}

impl Fulfilment {
    /// Reads a delivery's body. See [`Fulfilment`] for an example.
    ///
    /// A [`Webhook`](crate::Webhook) does this by itself; it is public for tests of handlers.
    ///
    /// # Errors
    ///
    /// If the body is not JSON, brings another event, or lacks what is needed to grant.
    pub fn decode(body: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let bytes = body.into();
        let body = match Body::read(Scan::new(&bytes)) {
            Ok(Some(body)) => body,
            Ok(None) => return Err(DecodeError::NotAFulfilment("the body is not an object")),
            Err(Stop::Twice) => return Err(DecodeError::NotAFulfilment("a member is there twice")),
            Err(Stop::NotJson) => return Err(DecodeError::not_json(&bytes)),
        };
        debug_assert!(serde_json::from_slice::<IgnoredAny>(&bytes).is_ok());
        let mut fulfilment = body.into_fulfilment()?;
        fulfilment.bytes = bytes;
        Ok(fulfilment)
    }

    /// Everything else the payload says.
    ///
    /// Read from the bytes at each call, since few handlers need it.
    ///
    /// # Errors
    ///
    /// If the payload holds text that JSON does not allow, in a member not needed to grant.
    ///
    /// ```
    /// # use tower_firstpromoter::event::Fulfilment;
    /// let fulfilment = Fulfilment::decode(r#"{
    ///     "event": { "type": "fulfilment_pending" },
    ///     "data": {
    ///         "id": 1, "amount": 3, "unit": "credits", "promoter": { "id": 7, "auth_token": "2-5P1Shf" },
    ///         "campaign": { "name": "Friends", "color": [7] }
    ///     }
    /// }"#)?;
    /// let details = fulfilment.details()?;
    /// let campaign = details.campaign.unwrap();
    /// assert_eq!(campaign.name.as_deref(), Some("Friends"));
    /// assert_eq!(campaign.color, None); // not a text, so as good as missing
    /// assert_eq!(format!("{:?}", details.promoter.auth_token), "Some([redacted])");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn details(&self) -> Result<Details, InvalidDetails> {
        Details::decode(&self.bytes)
    }

    /// The body exactly as it came, secrets included: not for a log, and not for a table.
    ///
    /// ```
    /// # use tower_firstpromoter::event::Fulfilment;
    /// # let body = r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7},"new":true}}"#;
    /// let fulfilment = Fulfilment::decode(body)?;
    /// let all: serde_json::Value = serde_json::from_slice(fulfilment.as_bytes()).unwrap();
    /// assert_eq!(all["data"]["new"], true);
    /// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
    /// ```
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A stable text to pass on as the idempotency key of calls to others, such as Stripe. See
    /// [`Fulfilment`] for an example.
    ///
    /// It is the same for every delivery of this reward. With several FirstPromoter accounts, put
    /// the account in front of it: ids are unique within one.
    pub fn idempotency_key(&self) -> String {
        format!("firstpromoter-fulfilment-{}", self.id)
    }
}

impl TryFrom<Bytes> for Fulfilment {
    type Error = DecodeError;

    fn try_from(body: Bytes) -> Result<Self, DecodeError> {
        Self::decode(body)
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

/// Why a body is not a fulfilment to grant.
///
/// ```
/// use tower_firstpromoter::event::{DecodeError, Fulfilment};
///
/// let without_data = r#"{ "event": { "type": "fulfilment_pending" } }"#;
/// let error = Fulfilment::decode(without_data).unwrap_err();
/// assert_eq!(error, DecodeError::NotAFulfilment("data is missing"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is not JSON.
    NotJson {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where reading stopped, in bytes from the line's start.
        column: usize,
    },
    /// It is JSON, and brings an event of another type.
    OtherEvent,
    /// A member that is needed to grant is missing or wrong; the text says which.
    NotAFulfilment(&'static str),
}

impl DecodeError {
    /// The parser says where. What it lets pass is not text, so that ends where text does.
    #[cold]
    fn not_json(body: &[u8]) -> Self {
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(body) {
            return Self::NotJson { line: error.line(), column: error.column() };
        }
        let text = body.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let mut lines = text.rsplit('\n');
        let column = lines.next().map_or(0, str::len);
        Self::NotJson { line: lines.count() + 1, column }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { line, column } => {
                write!(f, "the body is not JSON (line {line} column {column})")
            }
            Self::OtherEvent => f.write_str("event.type is not `fulfilment_pending`"),
            Self::NotAFulfilment(problem) => f.write_str(problem),
        }
    }
}

impl Error for DecodeError {}

// What one pass over the body picks out, as text. Nothing here can fail but syntax, so that the
// order of the members does not matter: `data` of another event may come first and look like
// anything. A number keeps all of its digits.

#[derive(Default)]
struct Body<'a> {
    event: Option<Option<EventMembers<'a>>>,
    data: Option<Option<Data<'a>>>,
}

#[derive(Default)]
struct EventMembers<'a> {
    id: Option<&'a str>,
    kind: Option<&'a str>,
    created_at: Option<&'a str>,
}

#[derive(Default)]
struct Data<'a> {
    id: Option<&'a str>,
    status: Option<&'a str>,
    amount: Option<&'a str>,
    unit: Option<&'a str>,
    has_issues: Option<&'a str>,
    promoter: Option<Option<PromoterMembers<'a>>>,
}

#[derive(Default)]
struct PromoterMembers<'a> {
    id: Option<&'a str>,
    email: Option<&'a str>,
    cust_id: Option<&'a str>,
}

impl<'a> Body<'a> {
    fn read(mut scan: Scan<'a>) -> Result<Option<Self>, Stop> {
        let body = scan.object(|body: &mut Self, name, scan| match name {
            b"event" => once(&mut body.event, EventMembers::read(scan)?),
            b"data" => once(&mut body.data, Data::read(scan)?),
            _ => scan.skip(),
        })?;
        scan.end()?;
        Ok(body)
    }
}

impl<'a> EventMembers<'a> {
    fn read(scan: &mut Scan<'a>) -> Result<Option<Self>, Stop> {
        scan.object(|event: &mut Self, name, scan| match name {
            b"id" => scan.text(&mut event.id),
            b"type" => scan.text(&mut event.kind),
            b"created_at" => scan.text(&mut event.created_at),
            _ => scan.skip(),
        })
    }
}

impl<'a> Data<'a> {
    fn read(scan: &mut Scan<'a>) -> Result<Option<Self>, Stop> {
        scan.object(|data: &mut Self, name, scan| match name {
            b"id" => scan.text(&mut data.id),
            b"status" => scan.text(&mut data.status),
            b"amount" => scan.text(&mut data.amount),
            b"unit" => scan.text(&mut data.unit),
            b"has_issues" => scan.text(&mut data.has_issues),
            b"promoter" => once(&mut data.promoter, PromoterMembers::read(scan)?),
            _ => scan.skip(),
        })
    }
}

impl<'a> PromoterMembers<'a> {
    fn read(scan: &mut Scan<'a>) -> Result<Option<Self>, Stop> {
        scan.object(|promoter: &mut Self, name, scan| match name {
            b"id" => scan.text(&mut promoter.id),
            b"email" => scan.text(&mut promoter.email),
            b"cust_id" => scan.text(&mut promoter.cust_id),
            _ => scan.skip(),
        })
    }
}

impl Body<'_> {
    fn into_fulfilment(self) -> Result<Fulfilment, DecodeError> {
        use DecodeError::NotAFulfilment as Problem;

        let event = self.event.flatten().unwrap_or_default();
        match Scalar::from(event.kind) {
            Scalar::Text(kind) if kind == "fulfilment_pending" => {}
            Scalar::Text(kind) if !kind.is_empty() => return Err(DecodeError::OtherEvent),
            kind if kind.is_absent() => return Err(Problem("event.type is missing")),
            _ => return Err(Problem("event.type is not a text")),
        }
        let data = self.data.flatten().ok_or(Problem("data is missing"))?;
        let id = required(data.id, "data.id is missing", "data.id is not a whole number")?;
        let amount = Scalar::from(data.amount);
        let amount = amount::from_json(&amount).ok_or(Problem(if amount.is_absent() {
            "data.amount is missing"
        } else {
            "data.amount is not a number"
        }))?;
        let unit = match Scalar::from(data.unit) {
            Scalar::Text(unit) if !unit.is_empty() => Unit::from(&*unit),
            unit if unit.is_absent() => return Err(Problem("data.unit is missing")),
            _ => return Err(Problem("data.unit is not a text")),
        };
        let promoter = data.promoter.flatten().unwrap_or_default();
        let promoter_id = required(
            promoter.id,
            "data.promoter.id is missing",
            "data.promoter.id is not a whole number",
        )?;
        Ok(Fulfilment {
            id: FulfilmentId::from(id),
            amount,
            unit,
            promoter: Promoter {
                id: PromoterId::from(promoter_id),
                email: Scalar::from(promoter.email).into_text().map(String::from),
                cust_id: Scalar::from(promoter.cust_id).into_text().map(String::from),
            },
            status: match Scalar::from(data.status) {
                Scalar::Text(status) => Status::from(&*status),
                _ => Status::Pending,
            },
            has_issues: Scalar::from(data.has_issues).as_bool().unwrap_or(false),
            event: Event {
                id: Scalar::from(event.id).as_u64(),
                created_at: match Scalar::from(event.created_at) {
                    Scalar::Text(at) if !at.is_empty() => Some(Timestamp::from(&*at)),
                    _ => None,
                },
            },
            bytes: Bytes::new(),
        })
    }
}

fn required(
    member: Option<&str>,
    missing: &'static str,
    wrong: &'static str,
) -> Result<u64, DecodeError> {
    let member = Scalar::from(member);
    member.as_u64().ok_or(DecodeError::NotAFulfilment(if member.is_absent() {
        missing
    } else {
        wrong
    }))
}
