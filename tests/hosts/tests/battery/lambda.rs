//! lambda_http 1: as the whole function, or as a layer around one. Events as the two kinds of API
//! Gateway send them, with bodies in text and in base64, through lambda_http's own types.
//!
//! Bodies are whole here, and the answer leaves as JSON, so no extension can be in it.

use std::convert::Infallible;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use lambda_http::{Adapter, Body, IntoResponse, LambdaEvent, Request, request::LambdaRequest};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::battery::{
    self, Answer, Call, Delivery, HOST, Host, OWN_BODY, OWN_HEADER, OWN_PATH, OWN_STATUS, PATH,
    call,
};

async fn own(request: Request) -> Result<Response<Body>, Infallible> {
    let (status, body) =
        if request.uri().path() == OWN_PATH { (OWN_STATUS, OWN_BODY) } else { (404, "") };
    let (name, value) = OWN_HEADER;
    let response = Response::builder().status(status).header(name, value).body(body.into());
    Ok(response.expect("a response"))
}

#[derive(Clone, Copy, Debug)]
pub enum Gateway {
    /// Payload format 2.0: HTTP APIs and function URLs.
    Http,
    /// Payload format 1.0: REST APIs. The stage is in front of the path.
    Rest { stage: &'static str },
}

const ALL: [(Gateway, bool); 3] =
    [(Gateway::Http, false), (Gateway::Http, true), (Gateway::Rest { stage: "$default" }, true)];

pub fn event(gateway: Gateway, in_base64: bool, delivery: &Delivery) -> Value {
    let head = &delivery.head;
    let (path, query) = (head.uri().path(), head.uri().query().unwrap_or_default());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a header or body in UTF-8");
    let headers: serde_json::Map<String, Value> = head
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), text(value.as_bytes()).into()))
        .collect();
    let bytes = &delivery.bytes;
    let body = if in_base64 { BASE64_STANDARD.encode(bytes) } else { text(bytes) };
    match gateway {
        Gateway::Http => json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api-id",
                "domainName": "shop.example.com",
                "http": {
                    "method": head.method().as_str(),
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": "none",
                },
                "requestId": "id",
                "routeKey": "$default",
                "stage": "$default",
                "time": "12/Mar/2020:19:03:58 +0000",
                "timeEpoch": 1583348638390_u64,
            },
            "body": body,
            "isBase64Encoded": in_base64,
        }),
        Gateway::Rest { stage } => {
            let parameters: serde_json::Map<String, Value> = query
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.replace('+', " ").into()))
                .into_iter()
                .collect();
            json!({
                "resource": "/{proxy+}",
                "path": path,
                "httpMethod": head.method().as_str(),
                "headers": headers,
                "multiValueHeaders": {},
                "queryStringParameters": parameters,
                "multiValueQueryStringParameters": {},
                "pathParameters": {},
                "stageVariables": {},
                "requestContext": {
                    "accountId": "123456789012",
                    "apiId": "api-id",
                    "domainName": "shop.example.com",
                    "httpMethod": head.method().as_str(),
                    "identity": {},
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "requestId": "id",
                    "resourceId": "id",
                    "resourcePath": "/{proxy+}",
                    "stage": stage,
                },
                "body": body,
                "isBase64Encoded": in_base64,
            })
        }
    }
}

/// What the gateway makes of the function's answer.
pub fn answer(answer: &Value) -> Answer {
    let mut headers = HeaderMap::new();
    for member in ["headers", "multiValueHeaders"] {
        for (name, value) in answer[member].as_object().into_iter().flatten() {
            let value = value.as_str().or(value[0].as_str()).expect("a header's text");
            headers.insert(
                HeaderName::try_from(name).expect("a header's name"),
                HeaderValue::try_from(value).expect("a header's value"),
            );
        }
    }
    let body = answer["body"].as_str().unwrap_or_default();
    let bytes = match answer["isBase64Encoded"].as_bool() {
        Some(true) => BASE64_STANDARD.decode(body).expect("base64"),
        _ => body.as_bytes().to_vec(),
    };
    let status = answer["statusCode"].as_u64().expect("a status") as u16;
    Answer {
        status: http::StatusCode::from_u16(status).expect("a status"),
        headers,
        verdict: None,
        bytes: bytes.into(),
        trailers: None,
    }
}

/// As `lambda_http::run` calls the service for each event.
fn in_process<S, R>(gateway: Gateway, in_base64: bool, service: S) -> Call
where
    S: Service<Request, Response = R, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    R: IntoResponse + Send + Sync + 'static,
{
    call(move |delivery| {
        let adapter = Adapter::from(service.clone());
        async move {
            let event = event(gateway, in_base64, &delivery).to_string();
            let payload: LambdaRequest = serde_json::from_str(&event).expect("a gateway's event");
            let event = LambdaEvent::new(payload, Default::default());
            let response = adapter.oneshot(event).await.expect("infallible");
            answer(&serde_json::to_value(response).expect("a gateway's answer"))
        }
    })
}

const LAMBDA: Host = Host { keeps_verdict: false, ..HOST };

#[tokio::test]
async fn layer_in_process() {
    for (gateway, in_base64) in ALL {
        let (webhook, calls) = battery::webhook();
        let service = webhook.at(PATH).layer(service_fn(own));
        battery::run(LAMBDA, &calls, in_process(gateway, in_base64, service)).await;
    }
}

#[tokio::test]
async fn service_in_process() {
    for (gateway, in_base64) in ALL {
        let (webhook, calls) = battery::webhook();
        let host = Host { has_app: false, ..LAMBDA };
        battery::run(host, &calls, in_process(gateway, in_base64, webhook)).await;
    }
}

#[tokio::test]
async fn layer_passes_other_events() {
    async fn echo(request: Request) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(request.into_body()))
    }

    for (gateway, in_base64) in ALL {
        let (webhook, calls) = battery::webhook();
        let layer = webhook.at(PATH).pass_other_events(|bytes| Body::from(bytes.to_vec()));
        let service = layer.layer(service_fn(echo));
        battery::run_passing(&calls, in_process(gateway, in_base64, service)).await;
    }
}

/// Behind a REST API the layer's path needs the stage; a webhook that is the whole function needs
/// no path.
#[tokio::test]
async fn the_stage_of_a_rest_api() {
    let gateway = Gateway::Rest { stage: "prod" };

    let (webhook, calls) = battery::webhook();
    let service = webhook.at(&format!("/prod{PATH}")).layer(service_fn(own));
    let host = Host { has_app: false, ..LAMBDA };
    battery::run(host, &calls, in_process(gateway, true, service)).await;

    let (webhook, calls) = battery::webhook();
    battery::run(host, &calls, in_process(gateway, true, webhook)).await;
}
