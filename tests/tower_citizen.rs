//! "It panics as soon as there is a limit around it."
//!
//! The layer among tower's own: limits, buffers, load shedding and timeouts, around it and within.
//! No service is called before it is ready, nothing panics, and every permit comes back, also from
//! deliveries that were dropped unfinished.

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::join_all};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::json;
use tokio::{sync::Semaphore, time::sleep};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer,
    load_shed::LoadShedLayer, service_fn, timeout::TimeoutLayer,
};
use tower_firstpromoter::{Outcome, Verdict, event::Fulfilment, fulfil_fn};

mod delivery;
use delivery::{DOCUMENTED, edited, fulfilled, full, never, post, verdict, webhook};

type Body = Full<Bytes>;

fn deliver() -> Request<Body> {
    post(full(DOCUMENTED))
}

fn other_event() -> Request<Body> {
    post(full(edited([("/event/type", json!("reward_created"))])))
}

fn home() -> Request<Body> {
    Request::new(full(""))
}

/// Panics if it is called without having been made ready. Its clones are not.
#[derive(Default)]
struct Picky {
    ready: bool,
}

impl Clone for Picky {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<Request<Body>> for Picky {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        ready(Ok(Response::new(request.into_body())))
    }
}

/// As a server calls it: made ready, then called, again and again, clones as well.
async fn in_any_order<S, B>(mut app: S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
{
    let requests: [fn() -> Request<Body>; 3] = [home, deliver, other_event];
    for first in requests {
        for second in requests {
            let _ = app.ready().await.expect("ready").call(first()).await;
            let mut clone = app.clone();
            let _ = app.ready().await.expect("ready").call(second()).await;
            let _ = clone.ready().await.expect("ready").call(first()).await;
            // Two at the same time, and one that is dropped.
            let one = app.ready().await.expect("ready").call(first());
            let two = app.ready().await.expect("ready").call(second());
            drop(app.ready().await.expect("ready").call(first()));
            let _ = tokio::join!(two, one);
        }
    }
}

#[tokio::test]
async fn nothing_is_called_before_it_is_ready() {
    let layer = webhook(fulfil_fn(fulfilled)).at("/hook");
    in_any_order(layer.layer(Picky::default())).await;
    in_any_order(layer.pass_other_events(Full::new).layer(Picky::default())).await;
}

/// Not ready, and then broken: what a service says of itself is what its callers hear.
#[tokio::test]
async fn readiness_is_forwarded() {
    #[derive(Clone, Default)]
    struct Moody(u8);
    impl Service<Request<Body>> for Moody {
        type Response = Response<Body>;
        type Error = &'static str;
        type Future = Ready<Result<Response<Body>, &'static str>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            self.0 += 1;
            match self.0 {
                1 => Poll::Pending,
                2 => Poll::Ready(Ok(())),
                _ => Poll::Ready(Err("broken")),
            }
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            ready(Err("called"))
        }
    }
    async fn check<S: Service<Request<Body>, Error = &'static str>>(mut app: S) {
        assert!(poll_fn(|cx| app.poll_ready(cx)).now_or_never().is_none());
        assert_eq!(poll_fn(|cx| app.poll_ready(cx)).now_or_never(), Some(Ok(())));
        assert_eq!(app.call(home()).await.err(), Some("called"));
        assert_eq!(poll_fn(|cx| app.poll_ready(cx)).now_or_never(), Some(Err("broken")));
    }
    let layer = webhook(fulfil_fn(never)).at("/hook");
    check(layer.layer(Moody::default())).await;
    check(layer.pass_other_events(Full::new).layer(Moody::default())).await;
}

/// Handlers and routes that take a while, so that there is something to drop and to wait for.
async fn slowly(fulfilment: Fulfilment) -> Result<Outcome, String> {
    sleep(Duration::from_millis(20)).await;
    fulfilled(fulfilment).await
}

async fn slow_app(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    sleep(Duration::from_millis(20)).await;
    Ok(Response::new(request.into_body()))
}

/// Many requests at once through a stack, every third of them dropped unfinished.
async fn storm<S, B>(app: S) -> usize
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
{
    let answers = (0..300_u64).map(|n| {
        let app = app.clone();
        let request = match n % 4 {
            0 => home(),
            1 => other_event(),
            _ => post(full(edited([("/data/id", json!(n / 8))]))),
        };
        async move {
            let answer = app.oneshot(request);
            if n % 3 == 0 {
                let patience = Duration::from_millis(n % 60);
                return tokio::time::timeout(patience, answer)
                    .await
                    .is_ok_and(|answer| answer.is_ok());
            }
            answer.await.is_ok()
        }
    });
    join_all(answers).await.into_iter().filter(|answered| *answered).count()
}

/// All permits are there, once the last request is gone.
async fn assert_all_back(limit: &Semaphore, permits: u32) {
    let all = tokio::time::timeout(Duration::from_secs(60), limit.acquire_many(permits)).await;
    assert!(all.is_ok(), "{} of {permits} permits are there", limit.available_permits());
}

#[tokio::test(start_paused = true)]
async fn every_permit_comes_back() {
    let (around, within) = (Arc::new(Semaphore::new(7)), Arc::new(Semaphore::new(3)));
    let limit =
        |permits: &Arc<Semaphore>| GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(permits));
    let app = || limit(&within).layer(service_fn(slow_app));
    let layer = webhook(fulfil_fn(slowly)).at("/hook");
    let passing = layer.clone().pass_other_events(Full::new);
    let (shed, soon) = (LoadShedLayer::new(), TimeoutLayer::new(Duration::from_millis(15)));

    let answered = storm(layer.layer(app())).await;
    assert!(answered >= 200, "{answered} of 300 were answered");
    assert_all_back(&within, 3).await;

    for answered in [
        storm(limit(&around).layer(layer.layer(app()))).await,
        storm(limit(&around).layer(passing.layer(app()))).await,
        storm(shed.layer(limit(&around).layer(layer.layer(app())))).await,
        storm(layer.layer(shed.layer(app()))).await,
        storm(passing.layer(shed.layer(app()))).await,
        storm(soon.layer(limit(&around).layer(passing.layer(app())))).await,
        storm(tower::buffer::Buffer::new(limit(&around).layer(passing.layer(app())), 5)).await,
    ] {
        assert!(answered < 300, "some were dropped");
        assert_all_back(&around, 7).await;
        assert_all_back(&within, 3).await;
    }
}

/// A buffer's worker, or a server's connection, is one service that lives on after a delivery.
#[tokio::test]
async fn behind_a_buffer_and_a_limit_of_one() {
    let layer = webhook(fulfil_fn(fulfilled)).at("/hook");
    let app = ServiceBuilder::new()
        .buffer(1)
        .concurrency_limit(1)
        .layer(layer)
        .concurrency_limit(1)
        .service(service_fn(|request: Request<Body>| {
            ready(Ok::<_, Infallible>(Response::new(request.into_body())))
        }));
    for request in [deliver, home, deliver, deliver, other_event, home, home, deliver] {
        let answer = app.clone().oneshot(request()).await.expect("an answer");
        let expected = if request().uri().path() == "/" { None } else { Some(()) };
        assert_eq!(answer.extensions().get::<Verdict>().map(|_| ()), expected);
    }
}

/// A delivery that is cut off from outside does not cut off its attempt.
#[tokio::test(start_paused = true)]
async fn a_time_out_around_it() {
    let slow = fulfil_fn(async |fulfilment: Fulfilment| {
        sleep(Duration::from_secs(5)).await;
        fulfilled(fulfilment).await
    });
    let app = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .layer(webhook(slow).at("/hook"))
        .service(service_fn(slow_app));
    let error = app.clone().oneshot(deliver()).await.expect_err("too slow");
    assert!(error.is::<tower::timeout::error::Elapsed>());
    sleep(Duration::from_secs(5)).await;
    let answer = app.oneshot(deliver()).await.expect("an answer");
    assert_eq!(verdict(&answer), Verdict::Fulfilled);
}

/// A handler made of a tower service: each of its clones is made ready, then called.
#[tokio::test(start_paused = true)]
async fn a_service_as_handler() {
    let service = ServiceBuilder::new()
        .concurrency_limit(2)
        .timeout(Duration::from_secs(1))
        .service(service_fn(slowly));
    let webhook = webhook(fulfil_fn(move |fulfilment| service.clone().oneshot(fulfilment)));
    let answers = join_all(
        (0..20).map(|id| webhook.clone().oneshot(post(full(edited([("/data/id", json!(id))]))))),
    );
    for answer in answers.await {
        assert_eq!(verdict(&answer.expect("an answer")), Verdict::Fulfilled);
    }
}

/// Only `pass_other_events` asks the inner service to be `Clone`.
#[tokio::test]
async fn a_service_that_cannot_be_cloned() {
    let mut calls = 0;
    let inner = service_fn(|_: Request<Body>| {
        calls += 1;
        ready(Ok::<_, Infallible>(Response::new(Body::default())))
    });
    let mut app = webhook(fulfil_fn(fulfilled)).at("/hook").layer(inner);
    for request in [home(), deliver(), other_event(), home()] {
        app.ready().await.expect("ready").call(request).await.expect("an answer");
    }
    assert_eq!(calls, 2);
}

/// An event of another type reaches the inner service as it came: every header, and the body whole.
#[tokio::test]
async fn other_events_are_passed_on_whole() {
    let layer = webhook(fulfil_fn(never)).at("/hook").pass_other_events(Full::new);
    let mut app = layer.layer(service_fn(|request: Request<Body>| {
        let mut answer = Response::new(request.body().clone());
        *answer.headers_mut() = request.headers().clone();
        answer.extensions_mut().insert(request.uri().clone());
        ready(Ok::<_, Infallible>(answer))
    }));
    let text = edited([("/event/type", json!("promoter_accepted"))]);
    let mut request = post(full(text.clone()));
    request.headers_mut().append("x-twice", "1".parse().expect("a value"));
    request.headers_mut().append("x-twice", "2".parse().expect("a value"));
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let answer = app.ready().await.expect("ready").call(request).await.expect("an answer");
    assert_eq!(answer.extensions().get(), Some(&uri));
    assert_eq!(answer.extensions().get::<Verdict>(), None, "the application's own answer");
    assert_eq!(answer.headers(), &headers);
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body");
    assert_eq!(body.to_bytes(), text);

    // Without the secret it does not.
    let mut request = other_event();
    *request.uri_mut() = http::Uri::from_static("/hook");
    let answer = app.ready().await.expect("ready").call(request).await.expect("an answer");
    assert_eq!(verdict(&answer), Verdict::Unauthorized);
}
