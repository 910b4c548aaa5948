//! How long a delivery has taken, and when it has taken too long. Without the `tokio` feature there
//! is no clock: the time is always zero and never up.

#[cfg(not(feature = "tokio"))]
mod disabled;
#[cfg(feature = "tokio")]
mod enabled;

#[cfg(not(feature = "tokio"))]
pub(crate) use self::disabled::{Alarm, Start};
#[cfg(feature = "tokio")]
pub(crate) use self::enabled::{Alarm, Start};
