use std::{error::Error, fmt};

use super::{Campaign, PromoterDetails, Reward, Timestamp};

object! {
    /// The members of `data` that fulfilling does not need, decoded by
    /// [`Fulfilment::details`](super::Fulfilment::details), whose page has an example.
    ///
    /// Every member may be missing; none of them should decide whether to fulfil.
    pub struct Details {
        /// When the fulfilment was earned.
        pub created_at: Option<Timestamp>,
        /// Undocumented by the sender.
        pub date_paid: Option<Timestamp>,
        /// Undocumented by the sender.
        pub due_date: Option<Timestamp>,
        /// The rule by which it was earned.
        pub reward: Option<Reward>,
        /// Who earned it.
        pub promoter: PromoterDetails,
        /// The campaign in which it was earned.
        pub campaign: Option<Campaign>,
    }
}

/// The error of [`Fulfilment::details`](super::Fulfilment::details): a member occurs twice, or its
/// name is not valid text.
///
/// Members of another type are not an error: they read as `None`.
///
/// ```
/// use tower_firstpromoter::event::Fulfilment;
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "type": "fulfilment_pending" },
///     "data": { "id": 1, "amount": 3, "unit": "credits", "promoter": { "id": 7 }, "reward": { "id": 1, "id": 2 } }
/// }"#)?; // it can still be fulfilled
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
