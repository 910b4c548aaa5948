//! A service over HTTP on loopback, and a client of the API that asks there.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::Service;
use tower_firstpromoter::api::Client;

/// Serves `service` for the rest of the test, and returns its address.
pub(crate) async fn serve<S>(service: S) -> String
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    format!("http://{address}")
}

pub(crate) fn client(url: &str, key: &str) -> Client {
    let http = legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    Client::new(http, key).expect("a key").base_url(url).expect("a base URL")
}
