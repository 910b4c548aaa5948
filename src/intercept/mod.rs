//! Intercepts deliveries and passes all other requests on.
//!
//! [`InterceptLayer`] wraps an application. A request for another path costs one comparison:
//! nothing is allocated, boxed or copied, and the inner service keeps its body and error types.
//! [`Webhook::at`](crate::Webhook::at) has an example.

mod body;
mod future;
mod layer;
mod other_events;
mod path;
mod service;

pub use self::{
    body::ResponseBody,
    future::InterceptFuture,
    layer::InterceptLayer,
    other_events::{OtherEvents, Pass, Refuse},
    service::Intercept,
};
