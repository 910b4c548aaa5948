//! tonic 0.14: as a layer of its server, or as the service of a route beside the gRPC ones.
//!
//! `accept_http1` is needed, because FirstPromoter need not speak HTTP/2. An unknown path is
//! answered with `200` here (the error is in `grpc-status`), so a mistyped one is a silent loss,
//! and so is a slash at its end where the webhook is a service.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::routing::post;
use bytes::Bytes;
use futures::{
    future::{Ready, ready},
    stream,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{body::Body, server::NamedService, service::Routes, transport::Server};
use tower::{Layer, Service};

use super::{
    battery::{self, HOST, Host, OWN_BODY, OWN_HEADER, OWN_PATH, OWN_STATUS, PATH},
    hyper::in_process,
    socket::{Protocol, client, listen},
};

/// A gRPC service's shape: its answer ends in trailers.
#[derive(Clone, Debug)]
struct Own;

impl NamedService for Own {
    const NAME: &'static str = "own";
}

impl Service<Request<Body>> for Own {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let (name, value) = OWN_HEADER;
        let mut trailers = HeaderMap::new();
        trailers.insert(name, HeaderValue::from_static(value));
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from(OWN_BODY))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let response = Response::builder().status(OWN_STATUS).header(name, value).body(body);
        ready(Ok(response.expect("a response")))
    }
}

/// `/own/{*rest}` is where tonic itself puts it, and `/own` where the battery asks.
fn own() -> Routes {
    Routes::new(Own).into_axum_router().route_service(OWN_PATH, axum_service()).into()
}

fn axum_service() -> impl Service<
    Request<axum::body::Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future = Ready<Result<Response<Body>, Infallible>>,
> + Clone
+ Send
+ Sync
+ 'static {
    tower::util::MapRequest::new(Own, |request: Request<axum::body::Body>| request.map(Body::new))
}

const IN_PROCESS: Host = Host { nowhere: 200, own_trailers: true, ..HOST };

#[tokio::test]
async fn layer_in_process() {
    let (webhook, calls) = battery::webhook();
    let service = webhook.at(PATH).layer(own());
    battery::run(IN_PROCESS, &calls, in_process(service)).await;
}

#[tokio::test]
async fn service_in_process() {
    let (webhook, calls) = battery::webhook();
    let routes: Routes = own().into_axum_router().route_service(PATH, webhook).into();
    battery::run(Host { takes_slash: false, ..IN_PROCESS }, &calls, in_process(routes)).await;
}

fn socket(protocol: Protocol) -> Host {
    // A client of HTTP/1 has to ask for trailers, and this one does not.
    Host { keeps_verdict: false, own_trailers: protocol == Protocol::Http2, ..IN_PROCESS }
}

#[tokio::test]
async fn layer_over_http1_and_http2() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (webhook, calls) = battery::webhook();
        let (listener, address) = listen().await;
        let server = Server::builder().accept_http1(true).layer(webhook.at(PATH)).add_routes(own());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        battery::run(socket(protocol), &calls, client(address, protocol)).await;
    }
}

#[tokio::test]
async fn service_over_http1_and_http2() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (webhook, calls) = battery::webhook();
        let (listener, address) = listen().await;
        let routes = own().into_axum_router().route_service(PATH, webhook);
        let server = Server::builder().accept_http1(true).add_routes(routes.into());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let host = Host { takes_slash: false, ..socket(protocol) };
        battery::run(host, &calls, client(address, protocol)).await;
    }
}

#[tokio::test]
async fn layer_passes_other_events() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (webhook, calls) = battery::webhook();
        let layer = webhook.at(PATH).pass_other_events(|bytes| Body::new(Full::new(bytes)));
        let routes = axum::Router::new().route(PATH, post(async |sent: Bytes| sent));
        let (listener, address) = listen().await;
        let server = Server::builder().accept_http1(true).layer(layer).add_routes(routes.into());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        battery::run_passing(&calls, client(address, protocol)).await;
    }
}
