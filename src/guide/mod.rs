//! Guides, one page each, compiled for the documentation and its tests only.

#[doc = include_str!("start.md")]
pub mod start {}

#[doc = include_str!("stores.md")]
pub mod stores {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("closing_the_loop.md")]
pub mod closing_the_loop {}
