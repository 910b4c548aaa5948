//! Tests stores. **Not under semver**: it may change in any version.

mod contract;

pub use self::contract::{Kind, namespace_contract, store_contract};
