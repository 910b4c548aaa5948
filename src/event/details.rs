use std::{error::Error, fmt};

use serde::{Deserialize, Deserializer};

use super::{Campaign, PromoterDetails, Reward, Timestamp, lenient};

/// The members of `data` that fulfilling does not need, decoded by
/// [`Fulfilment::details`](super::Fulfilment::details).
///
/// Every member may be missing; none of them should decide whether to fulfil.
///
/// ```
/// use tower_firstpromoter::event::{Details, Fulfilment};
///
/// /// The campaign that a letter of thanks mentions.
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
    /// When the fulfilment was earned.
    #[serde(deserialize_with = "lenient::scalar")]
    pub created_at: Option<Timestamp>,
    /// Undocumented by the sender.
    #[serde(deserialize_with = "lenient::scalar")]
    pub date_paid: Option<Timestamp>,
    /// Undocumented by the sender.
    #[serde(deserialize_with = "lenient::scalar")]
    pub due_date: Option<Timestamp>,
    /// The rule by which it was earned.
    #[serde(deserialize_with = "lenient::object")]
    pub reward: Option<Reward>,
    /// Who earned it.
    #[serde(deserialize_with = "promoter")]
    pub promoter: PromoterDetails,
    /// The campaign in which it was earned.
    #[serde(deserialize_with = "lenient::object")]
    pub campaign: Option<Campaign>,
}

fn promoter<'de, D: Deserializer<'de>>(input: D) -> Result<PromoterDetails, D::Error> {
    Ok(lenient::object(input)?.unwrap_or_default())
}

/// A member that [`Details`] reads is there twice, or is named by a string that is no text.
///
/// Members of another type are no error: they read as `None`.
///
/// ```
/// use tower_firstpromoter::event::Fulfilment;
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "type": "fulfilment_pending" },
///     "data": { "id": 1, "amount": 3, "unit": "credits", "promoter": { "id": 7 }, "reward": { "id": 1, "id": 2 } }
/// }"#)?; // which can be fulfilled all the same
/// let error = fulfilment.details().unwrap_err();
/// assert_eq!(error.to_string(), "the payload's details cannot be read: duplicate field `id`");
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDetails(Box<str>);

impl From<serde_json::Error> for InvalidDetails {
    fn from(error: serde_json::Error) -> Self {
        // serde quotes nothing of the payload here. The position is that within one of its objects.
        let text = error.to_string();
        Self(text.split(" at line ").next().unwrap_or_default().into())
    }
}

impl fmt::Display for InvalidDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload's details cannot be read: {}", self.0)
    }
}

impl Error for InvalidDetails {}
