//! What you test your own handlers and stores with. **Not under semver**: it may change in any
//! version, so pin it where that would hurt.

mod contract;

pub use self::contract::{namespace_contract, store_contract};
