//! axum 0.8: as the outermost layer of a router, or as the service of a route, nested or not.

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use tower::{Service, ServiceExt};

use super::{
    battery::{self, Answer, Call, HOST, Host, OWN_BODY, OWN_HEADER, OWN_PATH, PATH, call},
    socket::{Protocol, client, listen},
};

fn own() -> Router {
    let answer = (http::StatusCode::IM_A_TEAPOT, [OWN_HEADER], OWN_BODY);
    Router::new().route(OWN_PATH, get(async move || answer))
}

fn in_process(app: Router) -> Call {
    call(move |delivery| {
        let app = app.clone();
        async move {
            let response = app.oneshot(delivery.request().map(Body::new)).await;
            Answer::collect(response.expect("infallible")).await
        }
    })
}

async fn over_socket(app: Router) -> Call {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
    client(address, Protocol::Http1)
}

const SOCKET: Host = Host { keeps_verdict: false, ..HOST };

#[tokio::test]
async fn layer_in_process() {
    let (webhook, calls) = battery::webhook();
    battery::run(HOST, &calls, in_process(own().layer(webhook.at(PATH)))).await;
}

#[tokio::test]
async fn layer_over_http1() {
    let (webhook, calls) = battery::webhook();
    battery::run(SOCKET, &calls, over_socket(own().layer(webhook.at(PATH))).await).await;
}

#[tokio::test]
async fn service_in_process() {
    let (webhook, calls) = battery::webhook();
    let app = own().route_service(PATH, webhook);
    battery::run(Host { takes_slash: false, ..HOST }, &calls, in_process(app)).await;
}

#[tokio::test]
async fn service_over_http1() {
    let (webhook, calls) = battery::webhook();
    let app = own().route_service(PATH, webhook);
    battery::run(Host { takes_slash: false, ..SOCKET }, &calls, over_socket(app).await).await;
}

#[tokio::test]
async fn service_of_a_nested_router_in_process() {
    let (webhook, calls) = battery::webhook();
    let nested = Router::new().route_service("/firstpromoter", webhook);
    let app = own().nest("/webhooks", nested);
    battery::run(Host { takes_slash: false, ..HOST }, &calls, in_process(app)).await;
}

#[tokio::test]
async fn layer_passes_other_events() {
    for socket in [false, true] {
        let (webhook, calls) = battery::webhook();
        let layer = webhook.at(PATH).pass_other_events(Body::from);
        let app = Router::new().route(PATH, post(async |sent: Bytes| sent)).layer(layer);
        let call = if socket { over_socket(app).await } else { in_process(app) };
        battery::run_passing(&calls, call).await;
    }
}

/// Two mistakes that the types allow. Neither answers `200`, so the sender tells of them.
#[tokio::test]
async fn layers_that_never_see_the_path() {
    let (webhook, _) = battery::webhook();
    let layer = webhook.at(PATH);
    let nested = Router::new().route("/other", get(async || "other")).layer(layer.clone());
    for (mistake, mut app) in [
        ("the layer of a nested router", own().nest("/webhooks", nested)),
        ("`route_layer`", own().route_layer(layer)),
    ] {
        let delivery = http::Request::post(format!("{PATH}?key=at+least+sixteen+bytes"))
            .body(Body::empty())
            .expect("a request");
        let answer = app.as_service().call(delivery).await.expect("infallible");
        assert_eq!(answer.status(), 404, "{mistake}");
    }
}
