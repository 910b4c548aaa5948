//! The words, as the sender spells them.
//!
//! [`Fulfilment`] is what a handler receives. What is needed to grant stands in plain fields and is
//! read while the request waits; the rest of the payload is typed too, and is read from the exact
//! bytes when [`Fulfilment::details`] is called. Only five members are required: `event.type`,
//! `data.id`, `data.amount`, `data.unit` and `data.promoter.id`. Any other may be absent, `null`,
//! `""` or of a type nobody expected, and the reward is granted all the same.
//!
//! The empty string means "unknown" throughout the payload, so it reads as `None` everywhere.
//! [`Fulfilment`] has an example.

mod amount;
mod campaign;
mod details;
mod fulfilment;
mod ids;
mod lenient;
mod promoter;
mod reward;
mod scan;
mod scrub;
mod secret;
mod timestamp;
mod unit;

pub(crate) use self::scrub::scrub;
pub use self::{
    amount::{Amount, InvalidAmount},
    campaign::Campaign,
    details::{Details, InvalidDetails},
    fulfilment::{DecodeError, Event, Fulfilment, Status},
    ids::{FulfilmentId, InvalidId, PromoterId},
    promoter::{Balances, Profile, Promoter, PromoterDetails, Promotion},
    reward::{Reward, RewardKind},
    secret::Secret,
    timestamp::Timestamp,
    unit::Unit,
};
