//! The client's requests pass a mock that validates them by the sender's own OpenAPI file.
//!
//! `tests/prism/run` starts the mock and runs this; without `PRISM_URL` it is not run.

use std::{
    env,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy, rt::TokioExecutor};
use tower::{BoxError, Service, service_fn};
use tower_firstpromoter::{
    api::{Client, Error, Mismatch},
    event::Fulfilment,
};

type Log = Arc<Mutex<Vec<(Method, StatusCode)>>>;

/// The hop in front of the mock, which answers at its root what the API has at `/api/v1/payouts`. It
/// also shows the one example, which is `completed`, as `pending`.
fn hop(
    mock: String,
    log: Log,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send,
> + Clone
+ Send {
    let http = legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    service_fn(move |mut request: Request<Full<Bytes>>| {
        let (http, mock, log) = (http.clone(), mock.clone(), log.clone());
        async move {
            let path = request.uri().path_and_query().expect("a path").as_str();
            let path = path.strip_prefix("/api/v1/payouts").expect("the API's path");
            *request.uri_mut() = format!("{mock}{path}").parse()?;
            let method = request.method().clone();
            let (head, body) = http.request(request).await?.into_parts();
            let mut body = String::from_utf8(body.collect().await?.to_bytes().into())?;
            if method == Method::GET {
                body = body.replace(r#""status":"completed""#, r#""status":"pending""#);
            }
            log.lock().expect("whole").push((method, head.status));
            Ok(Response::from_parts(head, Full::from(body)))
        }
    })
}

#[tokio::test]
async fn requests_are_valid_and_answers_decode() {
    let Ok(mock) = env::var("PRISM_URL") else {
        let _ = writeln!(io::stderr(), "NOT RUN, for want of a mock: use tests/prism/run");
        return;
    };
    let log = Log::default();
    let hop = hop(mock, log.clone());
    let client = Client::new(hop.clone(), "any key").expect("a client");

    // The list's example.
    let pending = client.pending().await.expect("a list");
    assert_eq!(pending.unreadable, 0);
    let [payout] = &*pending.payouts else { panic!("one example: {pending:?}") };
    assert_eq!((payout.id.get(), payout.promoter.id.get()), (2_709_255, 8_736_661));
    assert_eq!((payout.unit.as_str(), payout.amount.whole()), ("points", Some(12)));
    let details = payout.details().expect("details");
    assert_eq!(details.created_at.expect("a time").as_str(), "2024-09-04T15:23:16.392Z");
    assert_eq!(details.reward.expect("a rule").id, Some(140_362));
    assert_eq!(details.campaign.expect("a campaign").name.as_deref(), Some("Make Campaign"));

    // The update's example is another payout, in cash: read, and told apart.
    log.lock().expect("whole").clear();
    let other = client.complete(payout).await;
    assert_eq!(other, Err(Error::Mismatch(Mismatch::Answer)));
    let ok = StatusCode::OK;
    assert_eq!(*log.lock().expect("whole"), [(Method::GET, ok), (Method::PUT, ok)]);

    // That example as it is, for what would be its delivery.
    let cash = Fulfilment::decode(
        r#"{"event":{"type":"fulfilment_pending"},"data":{"id":2710287,"amount":3000,"unit":"cash","promoter":{"id":8262622}}}"#,
    );
    let refused = client.complete(&cash.expect("a fulfilment")).await;
    assert_eq!(refused, Err(Error::Mismatch(Mismatch::Cash)));

    // And the mock does validate.
    for (uri, key, expected) in [
        ("/api/v1/payouts/list?status=pending", Some("key"), 200),
        ("/api/v1/payouts/list?status=unknown", Some("key"), 422),
        ("/api/v1/payouts/list?status=pending", None, 401),
        ("/api/v1/payouts/nowhere", Some("key"), 404),
    ] {
        let mut request = Request::get(uri);
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let request = request.body(Full::default()).expect("a request");
        let answer = hop.clone().call(request).await.expect("an answer");
        assert_eq!(answer.status(), expected, "{uri} {key:?}");
    }
}
