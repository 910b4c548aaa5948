//! hyper 1: around a service function, or alone. hyper has no router, so alone it answers any path.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_firstpromoter::BoxError;

use super::{
    battery::{
        self, Answer, Call, HOST, Host, OWN_BODY, OWN_HEADER, OWN_PATH, OWN_STATUS, PATH, Upload,
        call,
    },
    socket::{Protocol, client, listen},
};

async fn own<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) =
        if request.uri().path() == OWN_PATH { (OWN_STATUS, OWN_BODY) } else { (404, "") };
    let (name, value) = OWN_HEADER;
    let response = Response::builder().status(status).header(name, value).body(body.into());
    Ok(response.expect("a response"))
}

/// The service as hyper would call it, without hyper.
pub fn in_process<S, B>(service: S) -> Call
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: std::fmt::Debug> + Send + 'static,
{
    call(move |delivery| {
        let service = service.clone();
        async move {
            let response = service.oneshot(delivery.request()).await;
            Answer::collect(response.expect("infallible")).await
        }
    })
}

pub async fn over_socket<S, B>(protocol: Protocol, service: S) -> Call
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    client(address, protocol)
}

const SOCKET: Host = Host { keeps_verdict: false, ..HOST };

#[tokio::test]
async fn layer_in_process() {
    let (webhook, calls) = battery::webhook();
    let service = webhook.at(PATH).layer(service_fn(own));
    battery::run(HOST, &calls, in_process(service)).await;
}

#[tokio::test]
async fn layer_over_http1_and_http2() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (webhook, calls) = battery::webhook();
        let service = webhook.at(PATH).layer(service_fn(own));
        battery::run(SOCKET, &calls, over_socket(protocol, service).await).await;
    }
}

#[tokio::test]
async fn service_in_process() {
    let (webhook, calls) = battery::webhook();
    battery::run(Host { has_app: false, ..HOST }, &calls, in_process(webhook)).await;
}

#[tokio::test]
async fn service_over_http1_and_http2() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (webhook, calls) = battery::webhook();
        let host = Host { has_app: false, ..SOCKET };
        battery::run(host, &calls, over_socket(protocol, webhook).await).await;
    }
}

/// hyper's `Incoming` cannot be made of bytes, so the body is boxed in front.
#[tokio::test]
async fn layer_passes_other_events() {
    type Boxed = UnsyncBoxBody<Bytes, BoxError>;

    async fn echo(request: Request<Boxed>) -> Result<Response<Full<Bytes>>, Infallible> {
        let sent = request.into_body().collect().await.expect("a body").to_bytes();
        Ok(Response::new(sent.into()))
    }

    let (webhook, calls) = battery::webhook();
    let layer = webhook
        .at(PATH)
        .pass_other_events(|bytes| Full::new(bytes).map_err(BoxError::from).boxed_unsync());
    let service = layer.layer(service_fn(echo)).map_request(|request: Request<Incoming>| {
        request.map(|body| body.map_err(BoxError::from).boxed_unsync())
    });
    battery::run_passing(&calls, over_socket(Protocol::Http1, service).await).await;
}
