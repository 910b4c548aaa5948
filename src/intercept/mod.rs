//! Is this our path?
//!
//! [`InterceptLayer`] wraps an application and takes the deliveries out of its requests. To any
//! other request it is one comparison: nothing is allocated, boxed or copied, and the inner
//! service's body and error stay its own. [`Webhook::at`](crate::Webhook::at) has an example.

mod body;
mod future;
mod layer;
mod pass;
mod service;

pub use self::{
    body::ResponseBody,
    future::InterceptFuture,
    layer::InterceptLayer,
    pass::{PassOtherEvents, PassOtherEventsFuture, PassOtherEventsLayer},
    service::Intercept,
};
