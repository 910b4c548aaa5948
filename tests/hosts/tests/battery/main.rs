//! The same deliveries through every host, mounted in every way it takes: what is promised on the
//! README's first page must not depend on the framework around it.
//!
//! One file a host. Each mounts the webhook the way its users would, next to two routes of an
//! application's own, and runs [`battery::run`]: in process, and over a real socket where the host
//! is a server. The names of the tests are the table of hosts:
//!
//! ```text
//! cargo test --test battery
//! ```

mod battery;
mod socket;

mod axum;
mod hyper;
mod lambda;
mod lambda_example;
mod poem;
mod salvo;
mod tonic;
mod warp;
