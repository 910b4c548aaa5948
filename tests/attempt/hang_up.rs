//! The sender hangs up in the middle, over a real socket. The attempt goes on, and the next
//! delivery gets its verdict without a second one.

use std::time::Duration;

use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    Gate, Log,
    deliver::{SECRET, body},
    webhook,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_goes_on_without_its_sender() {
    let (gate, log) = (Gate::closed(), Log::default());
    let webhook = webhook(gate.clone()).observe(log.observer());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let app = Router::new().layer(webhook.at("/hook"));
    let server = tokio::spawn(async { axum::serve(listener, app).await });

    let body = body(5);
    let request = format!(
        "POST /hook?key={SECRET} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    );
    let mut socket = TcpStream::connect(address).await.expect("connects");
    socket.write_all(request.as_bytes()).await.expect("sends");
    gate.called(1).await;
    drop(socket);
    let patience = Duration::from_secs(20);
    timeout(patience, log.saw("hung up on Some(5)")).await.expect("the server notices");

    gate.open();
    timeout(patience, log.saw("ended late fulfilled, attempt 1"))
        .await
        .expect("the attempt goes on");

    let mut socket = TcpStream::connect(address).await.expect("connects");
    socket.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    timeout(patience, socket.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(gate.calls(), 1);
    assert_eq!(
        log.take(),
        ["hung up on Some(5)", "ended late fulfilled, attempt 1", "answered fulfilled, attempt 0"]
    );
    server.abort();
}
