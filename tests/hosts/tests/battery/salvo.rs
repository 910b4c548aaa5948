//! salvo 1.1: as a hoop of the whole service, or as the goal of a route, both through salvo's
//! `tower-compat`. The body must be named in both: `compat::<ReqBody>`.

use std::sync::Arc;

use http::uri::Scheme;
use http_body_util::BodyExt;
use salvo::{
    Router, Server, Service,
    conn::tcp::TcpAcceptor,
    handler,
    http::{ReqBody, StatusCode},
    prelude::{TowerLayerCompat, TowerServiceCompat},
};
use tower_firstpromoter::Webhook;

use super::{
    battery::{self, Answer, Call, HOST, Host, OWN_BODY, OWN_HEADER, PATH, call},
    socket::{Protocol, client, listen},
};

#[handler]
async fn own(response: &mut salvo::Response) {
    let (name, value) = OWN_HEADER;
    response.status_code(StatusCode::IM_A_TEAPOT);
    response.add_header(name, value, true).expect("a header");
    response.body(OWN_BODY);
}

fn router() -> Router {
    Router::new().push(Router::with_path("own").get(own))
}

fn goal(webhook: Webhook) -> Router {
    // By its full name, since the webhook takes any body and salvo has more than one.
    let goal = TowerServiceCompat::<ReqBody, _, _, _>::compat(webhook);
    Router::with_path("webhooks/firstpromoter").goal(goal)
}

fn in_process(service: Service) -> Call {
    let service = Arc::new(service);
    call(move |delivery| {
        let service = Arc::clone(&service);
        async move {
            let request = delivery.request().map(|upload| ReqBody::Boxed {
                inner: Box::pin(upload.map_err(Into::into)),
                fuse_config: None,
            });
            let request = salvo::Request::from_hyper(request, Scheme::HTTP);
            Answer::collect(service.handle(request).await.into_hyper()).await
        }
    })
}

async fn over_socket(service: Service) -> Call {
    let (listener, address) = listen().await;
    let acceptor = TcpAcceptor::try_from(listener).expect("an acceptor");
    tokio::spawn(Server::new(acceptor).serve(service));
    client(address, Protocol::Http1)
}

const SOCKET: Host = Host { keeps_verdict: false, ..HOST };

#[tokio::test]
async fn layer_in_process() {
    let (webhook, calls) = battery::webhook();
    let service = Service::new(router()).hoop(webhook.at(PATH).compat::<ReqBody>());
    battery::run(HOST, &calls, in_process(service)).await;
}

#[tokio::test]
async fn service_in_process() {
    let (webhook, calls) = battery::webhook();
    let service = Service::new(router().push(goal(webhook)));
    battery::run(HOST, &calls, in_process(service)).await;
}

#[tokio::test]
async fn layer_over_http1() {
    let (webhook, calls) = battery::webhook();
    let service = Service::new(router()).hoop(webhook.at(PATH).compat::<ReqBody>());
    battery::run(SOCKET, &calls, over_socket(service).await).await;
}

#[tokio::test]
async fn service_over_http1() {
    let (webhook, calls) = battery::webhook();
    let service = Service::new(router().push(goal(webhook)));
    battery::run(SOCKET, &calls, over_socket(service).await).await;
}

#[tokio::test]
async fn layer_passes_other_events() {
    #[handler]
    async fn echo(request: &mut salvo::Request, response: &mut salvo::Response) {
        response.body(request.payload().await.expect("a body").clone());
    }

    for socket in [false, true] {
        let (webhook, calls) = battery::webhook();
        let layer = webhook.at(PATH).pass_other_events(ReqBody::from);
        let router = Router::with_path("webhooks/firstpromoter").post(echo);
        let service = Service::new(router).hoop(layer.compat::<ReqBody>());
        let call = if socket { over_socket(service).await } else { in_process(service) };
        battery::run_passing(&calls, call).await;
    }
}

/// A mistake that the types allow: a router's own hoops run for its routes only.
#[tokio::test]
async fn a_hoop_that_never_sees_the_path() {
    let (webhook, _) = battery::webhook();
    let router = router().hoop(webhook.at(PATH).compat::<ReqBody>());
    let delivery = http::Request::post(format!("{PATH}?key=at+least+sixteen+bytes"))
        .body(ReqBody::None)
        .expect("a request");
    let delivery = salvo::Request::from_hyper(delivery, Scheme::HTTP);
    let answer = Service::new(router).handle(delivery).await.into_hyper();
    assert_eq!(answer.status(), 404);
}
