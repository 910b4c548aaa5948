//! How to, page by page.
//!
//! These modules hold no code: they are pages, compiled for the documentation and its tests only.

#[doc = include_str!("quick_start.md")]
pub mod quick_start {}

#[doc = include_str!("dashboard.md")]
pub mod dashboard {}

#[doc = include_str!("who_may_call.md")]
pub mod who_may_call {}

#[doc = include_str!("choosing_a_store.md")]
pub mod choosing_a_store {}

#[doc = include_str!("postgres_schema.md")]
#[doc = "```sql"]
#[doc = include_str!("../once/schema/postgres.sql")]
#[doc = "```"]
pub mod postgres_schema {}

#[doc = include_str!("slow_grants.md")]
pub mod slow_grants {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}
