//! The payload of a delivery, typed.
//!
//! A handler receives a [`Fulfilment`]. What it needs is in plain fields, decoded while the request
//! waits; [`Fulfilment::details`] decodes the rest from the same bytes. Five members are required:
//! `event.type`, `data.id`, `data.amount`, `data.unit` and `data.promoter.id`. Any other may be
//! absent, `null`, `""` or of any type, and reads as `None`.
//!
//! So does the empty string, which means "unknown". [`Fulfilment`] has an example.

#[macro_use]
mod macros;

mod amount;
mod campaign;
mod details;
mod fulfilment;
mod ids;
mod lenient;
mod promoter;
mod reward;
mod secret;
mod timestamp;
mod unit;

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
