//! Whatever the head of a request, nothing panics, and its delivery is fulfilled if and only if it is a
//! `POST` of plain JSON to the webhook's path with the secret in its place, exactly once.
//!
//! The input is a head as one would write it: a letter for the kind of access, a space, method,
//! space, target, and a header in each further line. The body is always a whole fulfilment.

use std::convert::Infallible;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use tower::{Layer, Service, service_fn};
use tower_firstpromoter::{
    Access, InvalidAccess, Outcome, Verdict, Webhook, event::Fulfilment, fulfil_fn,
    store::MemoryStore,
};

const PATH: &str = "/hook";
const SECRET: &str = "the secret, 2026";
const OLD: &str = "a/secret+of%2025";
const OLD_SEGMENT: &str = "a secret+of%2025";
const BODY: &str = r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
}

/// Panics if the law does not hold for this head.
pub(crate) fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut first = lines.next().unwrap_or_default().splitn(3, |byte| *byte == b' ');
    let (Some(kind), Some(method), Some(target)) = (first.next(), first.next(), first.next())
    else {
        return;
    };
    let Some(access) = access(kind) else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else { return };
    let mut request = Request::new(Whole(Bytes::from_static(BODY.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
        {
            request.headers_mut().append(name, value);
        }
    }

    let ours = is_ours(kind, request.uri().path());
    let fulfils = ours
        && request.method() == "POST"
        && is_json(request.headers())
        && has_room(request.headers())
        && knows_the_secret(kind, &request);

    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    let app = service_fn(async |_: Request<Whole>| {
        let mut answer = Response::new(Whole::default());
        *answer.status_mut() = http::StatusCode::IM_A_TEAPOT;
        Ok::<_, Infallible>(answer)
    });
    let mut service = Webhook::new(handler, MemoryStore::new(1), access).at(PATH).layer(app);
    let answer = RUNTIME.with(|runtime| runtime.block_on(service.call(request)));
    let answer = answer.expect("nothing here fails");

    let verdict = answer.extensions().get::<Verdict>();
    assert_eq!(verdict.is_some(), ours, "ours");
    assert_eq!(answer.status() == 200, fulfils, "{verdict:?}");
    if let Some(verdict) = verdict {
        assert_eq!(answer.status(), verdict.status());
    }
}

fn access(kind: &[u8]) -> Option<Access> {
    let either = |access: Result<Access, InvalidAccess>| access?.or_secret(OLD);
    let access = match kind {
        b"q" => either(Access::query("key", SECRET)),
        b"b" => either(Access::bearer(SECRET)),
        b"u" => either(Access::basic("user", SECRET)),
        b"h" => either(Access::header(HeaderName::from_static("x-key"), SECRET)),
        // A path secret has no slash.
        b"p" => Access::secret_path(SECRET).and_then(|access| access.or_secret(OLD_SEGMENT)),
        b"s" => either(Access::signature(SECRET)),
        b"c" => Ok(Access::custom(|head| match head.headers.get("x-key") {
            Some(key) => key == SECRET,
            // A panic, without the hook that ends a fuzzer.
            None => std::panic::resume_unwind(Box::new("no key")),
        })),
        b"a" => Ok(Access::anyone()),
        _ => return None,
    };
    Some(access.expect("long and printable"))
}

fn is_ours(kind: &[u8], path: &str) -> bool {
    let Some(rest) = path.strip_prefix(PATH) else { return false };
    let deepest = if kind == b"p" { 1 } else { 0 };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    rest.is_empty() || rest.starts_with('/') && rest.matches('/').count() <= deepest
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let Ok(content_type) = content_type.to_str() else { return false };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json"
        || essence.starts_with("application/") && essence.ends_with("+json");
    let plain = match headers.get(header::CONTENT_ENCODING) {
        Some(coding) => coding.to_str().is_ok_and(|coding| coding.eq_ignore_ascii_case("identity")),
        None => true,
    };
    json && plain
}

fn has_room(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse::<u64>().ok()).is_none_or(|length| length <= 256 * 1024)
}

fn knows_the_secret(kind: &[u8], request: &Request<Whole>) -> bool {
    let right = |text: &[u8]| text == SECRET.as_bytes() || text == OLD.as_bytes();
    let only = |name: &str| {
        let values: Vec<_> = request.headers().get_all(name).iter().collect();
        if let [value] = values[..] { Some(value.as_bytes().to_vec()) } else { None }
    };
    let after = |scheme: &str| {
        let value = only("authorization")?;
        let (found, token) = value.split_at_checked(scheme.len())?;
        let same = found.eq_ignore_ascii_case(scheme.as_bytes());
        same.then(|| token.trim_ascii().to_vec())
    };
    match kind {
        b"q" => {
            let query = request.uri().query().unwrap_or_default();
            let keys: Vec<_> = query
                .split('&')
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .filter(|(name, _)| unescaped(name, true) == b"key")
                .collect();
            matches!(keys[..], [(_, value)] if right(&unescaped(value, true)))
        }
        b"b" => after("Bearer ").is_some_and(|token| right(&token)),
        b"u" => after("Basic ").is_some_and(|token| {
            let pair = BASE64_STANDARD.decode(token).unwrap_or_default();
            pair.strip_prefix(b"user:").is_some_and(right)
        }),
        b"h" => only("x-key").is_some_and(|value| right(&value)),
        b"p" => {
            let path = request.uri().path();
            let segment = path.strip_suffix('/').unwrap_or(path).rsplit('/').next();
            let segment = unescaped(segment.unwrap_or_default(), false);
            segment == SECRET.as_bytes() || segment == OLD_SEGMENT.as_bytes()
        }
        b"s" => only("x-webhook-signature").is_some_and(|signature| {
            [SECRET, OLD].iter().any(|key| {
                let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("any key");
                let tag = mac.chain_update(BODY).finalize().into_bytes();
                let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
                signature.eq_ignore_ascii_case(tag.as_bytes())
            })
        }),
        // Like the `Access` above; where that panics, nobody comes in.
        b"c" => request.headers().get("x-key").is_some_and(|value| value == SECRET),
        _ => true,
    }
}

fn unescaped(text: &str, plus_is_space: bool) -> Vec<u8> {
    let mut bytes = text.bytes().collect::<std::collections::VecDeque<_>>();
    let mut found = Vec::new();
    while let Some(byte) = bytes.pop_front() {
        let digit = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                found.push((high * 16 + low) as u8);
                bytes.drain(..2);
            }
            (b'+', ..) if plus_is_space => found.push(b' '),
            _ => found.push(byte),
        }
    }
    found
}

/// A body that is there.
#[derive(Default)]
struct Whole(Bytes);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.0);
        std::task::Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
