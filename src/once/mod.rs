//! Was it granted before?
//!
//! FirstPromoter sends the same reward again after every error, time-out, hang-up and crash,
//! possibly in parallel and to another machine. [`Webhook::once`](crate::Webhook::once) makes the
//! grant happen once and stay granted:
//!
//! * **One detached task per reward; requests only listen to it.** The sender may hang up, the
//!   deadline may pass, duplicates may arrive: the grant runs to its end, and whoever asks
//!   meanwhile hears the same answer.
//! * **A [`Store`] remembers.** The intention to grant is durable before the handler is called, and
//!   its end before the `200` leaves.
//!
//! [`Webhook::once`](crate::Webhook::once) has an example.

mod desk;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redb")]
mod redb;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::postgres::{PostgresError, PostgresStore, PostgresTx};
#[cfg(feature = "redb")]
#[cfg_attr(docsrs, doc(cfg(feature = "redb")))]
pub use self::redb::{RedbError, RedbStore, RedbTx};
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sqlite::{SqliteError, SqliteStore, SqliteTx};
pub use self::{
    desk::Once,
    memory::{MemoryStore, MemoryTx},
    store::{Begin, Claim, End, Record, State, Store},
};
