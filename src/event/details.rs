use std::{error::Error, fmt};

use serde::Deserialize;

use super::{Campaign, PromoterDetails, Reward, Timestamp, lenient, timestamp};

/// All of `data` that is not needed to grant, read by
/// [`Fulfilment::details`](super::Fulfilment::details).
///
/// Every member may be missing; none of them should decide whether to grant.
///
/// ```
/// use tower_firstpromoter::event::{Details, Fulfilment};
///
/// /// In which campaign the reward was earned, for a letter of thanks.
/// fn campaign(fulfilment: &Fulfilment) -> Option<String> {
///     let Details { campaign, .. } = fulfilment.details().ok()?;
///     campaign?.name
/// }
/// # let body = r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7},"campaign":{"name":"Friends"}}}"#;
/// # assert_eq!(campaign(&Fulfilment::decode(body).unwrap()).as_deref(), Some("Friends"));
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Details {
    /// When the reward was earned.
    #[serde(deserialize_with = "timestamp::lenient")]
    pub created_at: Option<Timestamp>,
    /// Undocumented by the sender.
    #[serde(deserialize_with = "timestamp::lenient")]
    pub date_paid: Option<Timestamp>,
    /// Undocumented by the sender.
    #[serde(deserialize_with = "timestamp::lenient")]
    pub due_date: Option<Timestamp>,
    /// The rule by which it was earned.
    #[serde(deserialize_with = "lenient::object")]
    pub reward: Option<Reward>,
    /// Who earned it.
    #[serde(deserialize_with = "promoter")]
    pub promoter: PromoterDetails,
    /// The programme in which it was earned.
    #[serde(deserialize_with = "lenient::object")]
    pub campaign: Option<Campaign>,
}

fn promoter<'de, D: serde::Deserializer<'de>>(input: D) -> Result<PromoterDetails, D::Error> {
    Ok(lenient::object(input)?.unwrap_or_default())
}

impl Details {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, InvalidDetails> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            #[serde(deserialize_with = "lenient::object")]
            data: Option<Details>,
        }
        let body: Body = serde_json::from_slice(bytes)
            .map_err(|error| InvalidDetails { line: error.line(), column: error.column() })?;
        Ok(body.data.unwrap_or_default())
    }
}

/// A member of the payload is not text that JSON allows, such as half of a surrogate pair, or is
/// there twice.
///
/// Members of a wrong type are no error: they read as missing.
///
/// ```
/// use tower_firstpromoter::event::Fulfilment;
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "type": "fulfilment_pending" },
///     "data": { "id": 1, "amount": 3, "unit": "credits", "promoter": { "id": 7 }, "reward": { "id": 1, "id": 2 } }
/// }"#)?;
/// let error = fulfilment.details().unwrap_err(); // and it can be granted all the same
/// assert!(error.to_string().starts_with("the payload's details cannot be read at line 3"));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDetails {
    // Not serde's own error, whose words may quote the payload.
    line: usize,
    column: usize,
}

impl fmt::Display for InvalidDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column } = self;
        write!(f, "the payload's details cannot be read at line {line} column {column}")
    }
}

impl Error for InvalidDetails {}
