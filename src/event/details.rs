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
/// Members of another type are not an error: they read as `None`. The fulfilment can be fulfilled all
/// the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload's details cannot be read: {0}")]
pub struct InvalidDetails(Box<str>);

impl From<serde_json::Error> for InvalidDetails {
    fn from(error: serde_json::Error) -> Self {
        // serde quotes nothing of the payload here. The position is that within one of its objects.
        let text = error.to_string();
        Self(text.split(" at line ").next().unwrap_or_default().into())
    }
}
