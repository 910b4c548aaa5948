//! A type that was forgotten to be made a handler: as a layer, and as a service.

use http::Request;
use tower::Service;
use tower_firstpromoter::{Access, Webhook};

struct Credits;

fn serve(_: impl Service<Request<String>>) {}

fn main() {
    let _ = Webhook::new(Credits, Access::anyone()).at("/webhooks/firstpromoter");

    serve(Webhook::new(Credits, Access::anyone()));
}
