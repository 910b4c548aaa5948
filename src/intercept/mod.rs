//! Takes deliveries out of an application's requests.
//!
//! [`InterceptLayer`] wraps an application. To a request for another path it is one comparison: nothing
//! is allocated, boxed or copied, and the inner service's body and error stay its own.
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
