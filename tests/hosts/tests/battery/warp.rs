//! warp 0.4: in front of it only. A complete filter is a service, but no service can be put between
//! filters.

use tower::Layer;
use warp::Filter;

use super::{
    battery::{self, HOST, Host, OWN_BODY, OWN_HEADER, PATH},
    hyper::{in_process, over_socket},
    socket::Protocol,
};

fn own()
-> impl Filter<Extract = (impl warp::Reply,), Error = warp::Rejection> + Clone + Send + Sync + 'static
{
    warp::path!("own").map(|| {
        let (name, value) = OWN_HEADER;
        let reply = warp::reply::with_status(OWN_BODY, http::StatusCode::IM_A_TEAPOT);
        warp::reply::with_header(reply, name, value)
    })
}

#[tokio::test]
async fn layer_in_process() {
    let (webhook, calls) = battery::webhook();
    let service = webhook.at(PATH).layer(warp::service(own()));
    battery::run(HOST, &calls, in_process(service)).await;
}

#[tokio::test]
async fn layer_over_http1_and_http2() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (webhook, calls) = battery::webhook();
        let service = webhook.at(PATH).layer(warp::service(own()));
        let host = Host { keeps_verdict: false, ..HOST };
        battery::run(host, &calls, over_socket(protocol, service).await).await;
    }
}
