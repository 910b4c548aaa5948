//! "Anyone could reward themselves."
//!
//! Who is let in by each kind of `Access`, and who is not: right, wrong, missing, doubled and rotated
//! secrets, however they are spelt. Of those who are not let in, no byte of the body is read.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, Request, request::Builder};
use http_body::{Body, Frame};
use tower::{Layer, ServiceExt, service_fn};
use tower_firstpromoter::{Access, Fulfil, Verdict, Webhook, fulfil_fn};

mod delivery;
use delivery::{DOCUMENTED, fulfilled, full, never, verdict};

const NEW: &str = "new: sécret/&=+%20?";
const OLD: &str = "the-old-secret-of-2025";

/// Read, it fails the test.
struct Unread;

impl Body for Unread {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a stranger's body was read");
    }
}

fn to(uri: &str) -> Builder {
    Request::post(uri).header("content-type", "application/json")
}

fn with(name: &str, values: &[&[u8]]) -> Builder {
    values.iter().fold(to("/hook"), |request, value| request.header(name, *value))
}

/// Percent-encoded, every byte of it.
fn encoded(secret: &str) -> String {
    secret.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn basic(credentials: &str) -> Vec<u8> {
    format!("Basic {}", BASE64_STANDARD.encode(credentials)).into()
}

/// Lets in or not, with the handler and the body to prove it; as a service and behind the layer.
#[track_caller]
fn check(access: &Access, request: impl Fn() -> Builder, admitted: bool, what: &str) {
    let found = if admitted {
        verdicts(Webhook::new(fulfil_fn(fulfilled), access.clone()), || {
            request().body(full(DOCUMENTED)).expect("a request")
        })
    } else {
        verdicts(Webhook::new(fulfil_fn(never), access.clone()), || {
            request().body(Unread).expect("a request")
        })
    };
    let expected = if admitted { Verdict::Granted } else { Verdict::Unauthorized };
    assert_eq!(found, [expected; 2], "{access:?}: {what}");
}

#[track_caller]
fn verdicts<F: Fulfil, B: Body>(
    webhook: Webhook<F>,
    request: impl Fn() -> Request<B>,
) -> [Verdict; 2] {
    let app = webhook.clone().at("/hook").layer(service_fn(not_found));
    let alone = webhook.oneshot(request()).now_or_never().expect("at once");
    let behind = app.oneshot(request()).now_or_never().expect("at once");
    [verdict(&alone.expect("an answer")), verdict(&behind.expect("an answer"))]
}

async fn not_found<B>(_: Request<B>) -> Result<http::Response<String>, Infallible> {
    panic!("this path is the webhook's")
}

#[test]
fn a_secret_in_the_query() {
    let one = Access::query("key", NEW);
    let both = Access::query("key", NEW).or(OLD);
    let plus = "new:+s%C3%A9cret/%26%3D%2B%2520?";
    for (query, admitted) in [
        (format!("?key={}", encoded(NEW)), true),
        (format!("?key={plus}"), true),
        (format!("?a=b&key={plus}&c"), true),
        (format!("?%6Bey={plus}"), true),
        (format!("?key={plus}&"), true),
        (format!("?key={plus}&keys=other&KEY=x"), true),
        (String::new(), false),
        ("?".into(), false),
        ("?key".into(), false),
        ("?key=".into(), false),
        (format!("?{plus}"), false),
        (format!("?KEY={plus}"), false),
        (format!("?key={plus}x"), false),
        (format!("?key=x{plus}"), false),
        (format!("?key={}", &plus[..plus.len() - 1]), false),
        (format!("?key={}", plus.to_uppercase()), false),
        (format!("?key={plus}&key={plus}"), false),
        (format!("?key=wrong&key={plus}"), false),
        (format!("?key={plus}&key="), false),
        (format!("?key[]={plus}"), false),
    ] {
        check(&one, || to(&format!("/hook{query}")), admitted, &query);
        check(&both, || to(&format!("/hook{query}")), admitted, &query);
    }
    check(&one, || to(&format!("/hook?key={OLD}")), false, "not yet, or no more");
    check(&both, || to(&format!("/hook?key={OLD}")), true, "rotated");
    check(&both, || to(&format!("/hook?key={OLD}&key={plus}")), false, "both at once");
    check(
        &both,
        || with("authorization", &[format!("Bearer {OLD}").as_bytes()]),
        false,
        "elsewhere",
    );
}

#[test]
fn a_bearer_token() {
    let access = Access::bearer(NEW).or(OLD);
    let new = format!("Bearer {NEW}");
    for (values, admitted) in [
        (&[new.as_bytes()][..], true),
        (&[format!("Bearer {OLD}").as_bytes()], true),
        (&[format!("bearer {OLD}").as_bytes()], true),
        (&[format!("BEARER  {OLD} ").as_bytes()], true),
        (&[], false),
        (&[b""], false),
        (&[b"Bearer"], false),
        (&[b"Bearer "], false),
        (&[OLD.as_bytes()], false),
        (&[format!("Bearer{OLD}").as_bytes()], false),
        (&[format!("Basic {OLD}").as_bytes()], false),
        (&[format!("Bearer {OLD}x").as_bytes()], false),
        (&[new.as_bytes(), new.as_bytes()], false),
        (&[new.as_bytes(), b"Basic abc"], false),
        (&[b"Bearer \xff\xff"], false),
    ] {
        let what = format!(
            "{:?}",
            values.iter().map(|v| v.escape_ascii().to_string()).collect::<Vec<_>>()
        );
        check(&access, || with("authorization", values), admitted, &what);
    }
}

#[test]
fn a_user_and_a_password() {
    let access = Access::basic("firstpromoter", NEW).or(OLD);
    let right = basic(&format!("firstpromoter:{NEW}"));
    let lower = [b"basic ", &right[6..]].concat();
    for (values, admitted) in [
        (vec![right.clone()], true),
        (vec![lower], true),
        (vec![basic(&format!("firstpromoter:{OLD}"))], true),
        (vec![], false),
        (vec![b"Basic".to_vec()], false),
        (vec![b"Basic !!!".to_vec()], false),
        (vec![format!("Basic firstpromoter:{OLD}").into()], false),
        (vec![basic(OLD)], false),
        (vec![basic(&format!(":{OLD}"))], false),
        (vec![basic(&format!("firstpromoter:{OLD}:"))], false),
        (vec![basic(&format!("FirstPromoter:{OLD}"))], false),
        (vec![basic("firstpromoter:wrong")], false),
        (vec![basic("firstpromoter:")], false),
        (vec![right.clone(), right.clone()], false),
    ] {
        let values: Vec<_> = values.iter().map(|value| &value[..]).collect();
        let what = format!(
            "{:?}",
            values.iter().map(|v| v.escape_ascii().to_string()).collect::<Vec<_>>()
        );
        check(&access, || with("authorization", &values), admitted, &what);
    }
}

#[test]
fn a_header() {
    let access = Access::header(HeaderName::from_static("x-webhook-key"), NEW).or(OLD);
    for (values, admitted) in [
        (&[NEW.as_bytes()][..], true),
        (&[OLD.as_bytes()], true),
        (&[], false),
        (&[b""], false),
        (&[b"wrong"], false),
        (&[OLD.as_bytes(), OLD.as_bytes()], false),
        (&[b"wrong", OLD.as_bytes()], false),
        (&[encoded(OLD).as_bytes()], false),
    ] {
        check(&access, || with("X-Webhook-Key", values), admitted, "in the header");
    }
    check(&access, || with("x-webhook-keys", &[OLD.as_bytes()]), false, "another header");
}

#[test]
fn the_path_itself() {
    let access = Access::secret_path(NEW).or(OLD);
    for (path, admitted) in [
        (format!("/hook/{OLD}"), true),
        (format!("/hook/{OLD}/"), true),
        (format!("/hook/{OLD}?a=b"), true),
        (format!("/hook/{}", encoded(OLD)), true),
        (format!("/hook/{}", encoded(NEW)), true),
        ("/hook".into(), false),
        ("/hook/".into(), false),
        ("/hook/wrong".into(), false),
        (format!("/hook/{OLD}x"), false),
        (format!("/hook?{OLD}"), false),
        (format!("/hook?key={OLD}"), false),
    ] {
        check(&access, || to(&path), admitted, &path);
    }
    // Mounted as a service, below whatever the framework has left of the path.
    let webhook = Webhook::new(fulfil_fn(fulfilled), access);
    for (path, expected) in [
        (format!("/{OLD}"), Verdict::Granted),
        (format!("/a/b/{OLD}"), Verdict::Granted),
        (format!("/{OLD}/more"), Verdict::Unauthorized),
    ] {
        let request = to(&path).body(full(DOCUMENTED)).expect("a request");
        let answer = webhook.clone().oneshot(request).now_or_never().expect("at once");
        assert_eq!(verdict(&answer.expect("an answer")), expected, "{path}");
    }
}

#[test]
fn a_function_and_anyone() {
    let mine = |request: &http::request::Parts| request.headers.contains_key("x-mine");
    check(&Access::custom(mine), || to("/hook").header("x-mine", "1"), true, "mine");
    check(&Access::custom(mine), || to("/hook"), false, "not mine");
    let panics = Access::custom(|_| panic!("a slip of the function's author"));
    check(&panics, || to("/hook").header("x-mine", "1"), false, "a panic lets nobody in");
    check(&Access::anyone(), || to("/hook"), true, "anyone");
}

fn signed(key: &str, body: &[u8]) -> String {
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("keys of any length");
    let bytes = mac.chain_update(body).finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_signature_of_the_body() {
    let access = Access::signature(NEW).or(OLD);
    let body = DOCUMENTED.as_bytes();
    let good = signed(NEW, body);
    let name = "X-Webhook-Signature";
    check(&access, || with(name, &[good.as_bytes()]), true, "the new key");
    check(&access, || with(name, &[signed(OLD, body).as_bytes()]), true, "the old key");

    // What is no signature at all is seen in the head.
    for (what, values) in [
        ("missing", &[][..]),
        ("empty", &[&b""[..]]),
        ("not hexadecimal", &[&[b'x'; 64]]),
        ("too short", &[&good.as_bytes()[..62]]),
        ("too long", &[format!("{good}00").as_bytes()]),
        ("of another scheme", &[format!("sha256={good}").as_bytes()]),
        ("doubled", &[good.as_bytes(), good.as_bytes()]),
    ] {
        check(&access, || with(name, values), false, what);
    }

    // A wrong one takes the body to tell, and the body is then not decoded: it may be anything.
    let other = DOCUMENTED.replace("\"amount\": 3", "\"amount\": 9999");
    for (what, signature, body, expected) in [
        ("of another body", good.clone(), &other[..], Verdict::Unauthorized),
        ("by another key", signed("somebody else's key", body), DOCUMENTED, Verdict::Unauthorized),
        ("of nothing", signed(NEW, b""), DOCUMENTED, Verdict::Unauthorized),
        ("not even JSON", good.clone(), "{", Verdict::Unauthorized),
        ("good, and not JSON", signed(NEW, b"{"), "{", Verdict::NotJson),
        ("over the limit", good.clone(), &" ".repeat(10_000), Verdict::BodyTooLarge),
    ] {
        let webhook = Webhook::new(fulfil_fn(never), access.clone()).body_limit(5_000);
        let request = with(name, &[signature.as_bytes()]).body(full(body.to_owned()));
        let answer = webhook.oneshot(request.expect("a request")).now_or_never().expect("at once");
        assert_eq!(verdict(&answer.expect("an answer")), expected, "{what}");
    }
}

/// A method or a secret that is wrong is seen before the content type, and all three in the head.
#[test]
fn in_which_order_a_head_is_refused() {
    let right = format!("/hook?key={OLD}");
    for (method, uri, content_type, expected) in [
        ("GET", "/hook", "text/plain", Verdict::MethodNotAllowed),
        ("POST", "/hook", "text/plain", Verdict::Unauthorized),
        ("POST", &right, "text/plain", Verdict::UnsupportedMediaType),
    ] {
        let webhook = Webhook::new(fulfil_fn(never), Access::query("key", OLD));
        let request =
            Request::builder().method(method).uri(uri).header("content-type", content_type);
        let request = request.header("content-length", "4000000000000000").body(Unread);
        let answer = webhook.oneshot(request.expect("a request")).now_or_never().expect("at once");
        assert_eq!(verdict(&answer.expect("an answer")), expected);
    }
}

#[track_caller]
fn refusal<T>(build: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(build)).err().expect("it is refused");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[test]
fn secrets_that_cannot_be_meant_are_refused() {
    let short = "fifteen bytes!!";
    let said = "a webhook's secret needs at least 16 bytes, and this one has 15";
    let header = || HeaderName::from_static("x-key");
    assert_eq!(refusal(|| Access::query("key", short)), said);
    assert_eq!(refusal(|| Access::bearer(short)), said);
    assert_eq!(refusal(|| Access::basic("a long user's name", short)), said);
    assert_eq!(refusal(|| Access::header(header(), short)), said);
    assert_eq!(refusal(|| Access::secret_path(short)), said);
    assert_eq!(refusal(|| Access::signature(short)), said);
    assert_eq!(refusal(|| Access::query("key", OLD).or(short)), said);
    assert_eq!(
        refusal(|| Access::query("key", "")),
        "a webhook's secret needs at least 16 bytes, and this one has 0"
    );
    // As `read_to_string` reads it. Nobody could send it in a header, and every reward would be lost.
    for secret in [&*format!("{OLD}\n"), &*format!(" {OLD}")] {
        let said =
            "a webhook's secret must not begin or end with white space, such as the end of a line";
        assert_eq!(refusal(|| Access::query("key", secret)), said);
        assert_eq!(refusal(|| Access::bearer(OLD).or(secret)), said);
    }
    for access in [Access::anyone(), Access::custom(|_| true)] {
        assert_eq!(refusal(|| access.or(OLD)), "this `Access` has no secret to add another to");
    }
    let _ = Access::query("key", "sixteen bytes!!!");
}

#[test]
fn a_secret_path_below_everything_is_refused() {
    let at = |path| {
        std::panic::catch_unwind(|| {
            Webhook::new(fulfil_fn(fulfilled), Access::secret_path(NEW)).at(path)
        })
    };
    assert!(at("/").is_err());
    assert!(at("/hook").is_ok());
}

#[test]
fn debug_redacts() {
    let header = HeaderName::from_static("x-key");
    for (access, expected) in [
        (Access::query("key", NEW).or(OLD), "Query(\"key\", [redacted])"),
        (Access::bearer(NEW).or(OLD), "Bearer([redacted])"),
        (Access::basic("user", NEW).or(OLD), "Basic([redacted])"),
        (Access::header(header, NEW).or(OLD), "Header(\"x-key\", [redacted])"),
        (Access::secret_path(NEW).or(OLD), "SecretPath([redacted])"),
        (Access::signature(NEW).or(OLD), "Signature([redacted])"),
        (Access::custom(|_| true), "Custom(..)"),
        (Access::anyone(), "Anyone"),
    ] {
        assert_eq!(format!("{access:?}"), expected);
        let webhook = Webhook::new(fulfil_fn(never), access);
        let layer = webhook.clone().at("/hook");
        let app = layer.layer("an application");
        for shown in [format!("{webhook:?}"), format!("{layer:?}"), format!("{app:#?}")] {
            assert!(shown.contains(expected), "{shown}");
            assert!(!shown.contains(OLD) && !shown.contains("cret/"), "{shown}");
        }
    }
}

#[test]
fn paths_that_could_never_match_are_refused() {
    let webhook = || Webhook::new(fulfil_fn(never), Access::query("key", OLD));
    for (path, problem) in [
        ("", "it must start with `/`"),
        ("hook", "it must start with `/`"),
        ("https://example.com/hook", "it must start with `/`"),
        ("/hook?key=a", "it must have no query and no fragment"),
        ("/hook#a", "it must have no query and no fragment"),
        ("/{id}", "it is compared as it stands, without parameters and wildcards"),
        ("/hook/*", "it is compared as it stands, without parameters and wildcards"),
        ("/:id", "it is compared as it stands, without parameters and wildcards"),
        ("//", "it has two slashes in a row, as no URL of a sender has"),
        ("/hook//", "it has two slashes in a row, as no URL of a sender has"),
        ("/a/../hook", "clients resolve `.` and `..` before they send"),
        ("/hook ", "it must be percent-encoded, as it comes over the wire"),
        ("/hök", "it must be percent-encoded, as it comes over the wire"),
    ] {
        assert_eq!(
            refusal(|| webhook().at(path)),
            format!("`Webhook::at({path:?})` would never match a request: {problem}")
        );
    }
}
