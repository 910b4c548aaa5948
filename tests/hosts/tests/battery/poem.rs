//! poem 3: as the endpoint of a route, through its `tower-compat`. It has middleware of its own and
//! takes no layers for HTTP.

use std::{io, sync::Arc};

use http_body_util::{BodyDataStream, BodyExt};
use poem::{
    Body, Endpoint, IntoResponse, Response, Route, Server, endpoint::TowerCompatExt, handler,
    listener::TcpAcceptor,
};
use tower_firstpromoter::Webhook;

use super::{
    battery::{self, Answer, Call, HOST, Host, OWN_BODY, OWN_HEADER, OWN_PATH, PATH, call},
    socket::{Protocol, client, listen},
};

#[handler]
fn own() -> impl IntoResponse {
    let (name, value) = OWN_HEADER;
    Response::builder().status(http::StatusCode::IM_A_TEAPOT).header(name, value).body(OWN_BODY)
}

fn app(webhook: Webhook) -> impl Endpoint<Output = Response> {
    Route::new().at(OWN_PATH, own).at(PATH, webhook.compat())
}

fn in_process(app: impl Endpoint<Output = Response> + 'static) -> Call {
    let app = Arc::new(app);
    call(move |delivery| {
        let app = Arc::clone(&app);
        async move {
            let (head, upload) = delivery.request().into_parts();
            let body =
                Body::from_bytes_stream(BodyDataStream::new(upload.map_err(io::Error::other)));
            let mut request = poem::Request::builder().method(head.method).uri(head.uri).body(body);
            *request.headers_mut() = head.headers;
            let response: http::Response<_> = app.get_response(request).await.into();
            Answer::collect(response).await
        }
    })
}

#[tokio::test]
async fn service_in_process() {
    let (webhook, calls) = battery::webhook();
    battery::run(Host { takes_slash: false, ..HOST }, &calls, in_process(app(webhook))).await;
}

#[tokio::test]
async fn service_over_http1() {
    let (webhook, calls) = battery::webhook();
    let (listener, address) = listen().await;
    let acceptor = TcpAcceptor::from_tokio(listener).expect("an acceptor");
    tokio::spawn(Server::new_with_acceptor(acceptor).run(app(webhook)));
    let host = Host { keeps_verdict: false, takes_slash: false, ..HOST };
    battery::run(host, &calls, client(address, Protocol::Http1)).await;
}
