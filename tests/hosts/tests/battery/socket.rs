//! A client that opens a connection for each delivery, and a place to listen.

use std::net::SocketAddr;

use http::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use super::battery::{Answer, Call, Upload, call};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// Over clear text, as behind a proxy.
    Http2,
}

pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Reaches the server at `address`.
pub fn client(address: SocketAddr, protocol: Protocol) -> Call {
    call(move |delivery| send(address, protocol, delivery.request()))
}

async fn send(address: SocketAddr, protocol: Protocol, mut request: Request<Upload>) -> Answer {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let io = TokioIo::new(stream);
    let (response, connection) = match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.expect("HTTP/1");
            let connection = tokio::spawn(async move { drop(connection.await) });
            (sender.send_request(request).await.expect("an answer"), connection)
        }
        Protocol::Http2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .expect("HTTP/2");
            let connection = tokio::spawn(async move { drop(connection.await) });
            let target = format!("http://shop.example.com{}", request.uri());
            *request.uri_mut() = target.parse::<Uri>().expect("a target");
            request.headers_mut().remove("host");
            (sender.send_request(request).await.expect("an answer"), connection)
        }
    };
    let answer = Answer::collect(response).await;
    connection.abort();
    answer
}
