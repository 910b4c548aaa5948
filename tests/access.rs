//! "Anyone could send themselves free months."
//!
//! Which deliveries each kind of [`Access`] admits, and by which of its secrets: right, wrong,
//! missing, repeated and rotated ones, in every spelling. Of a refused delivery no byte of the body
//! is read. A secret that could be guessed or never match is refused when the `Access` is built.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, Request, request::Builder};
use http_body::{Body, Frame};
use tower::{Layer, ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, InvalidAccess, Verdict, Webhook, fulfil_fn, observe::DeliveryEvent, store::MemoryStore,
};

mod delivery;
use delivery::{DOCUMENTED, fulfilled, full, verdict};

const NEW: &str = "new: sécret&=+%20?";
const OLD: &str = "the-old-secret-of-2025";

const KEY: HeaderName = HeaderName::from_static("x-key");

/// How a delivery ends, and the position of the secret that admitted it.
type End = (Verdict, Option<usize>);
const BY_NEW: End = (Verdict::Fulfilled, Some(0));
const BY_OLD: End = (Verdict::Fulfilled, Some(1));
const WITHOUT: End = (Verdict::Fulfilled, None);
const REFUSED: End = (Verdict::Unauthorized, None);

/// A body in one frame. `None` is a body that must not be read.
struct Upload(Option<Bytes>);

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(self.0.take().expect("a stranger's body is not read")))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

fn to(uri: &str) -> Builder {
    Request::post(uri).header("content-type", "application/json")
}

fn with(name: impl AsRef<str>, values: &[impl AsRef<[u8]>]) -> Builder {
    values.iter().fold(to("/hook"), |request, value| request.header(name.as_ref(), value.as_ref()))
}

fn open(access: Access) -> Webhook {
    Webhook::new(fulfil_fn(fulfilled), MemoryStore::new(10), access)
}

/// Percent-encoded, every byte of it.
fn encoded(secret: &str) -> String {
    secret.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

/// Sends a delivery to the webhook as a service and behind the layer.
async fn check(access: &Access, request: Builder, expected: End) {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&ends);
    let webhook = open(access.clone()).observe(move |event: &DeliveryEvent<'_>| {
        if let DeliveryEvent::Answered { verdict, secret, .. } = *event {
            sink.lock().expect("no panic").push((verdict, secret));
        }
    });
    let upload = || Upload((expected != REFUSED).then(|| DOCUMENTED.into()));
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let what = format!("{access:?}: {} {:?}", head.uri, head.headers);
    let app = webhook.clone().at("/hook").layer(service_fn(not_found));
    webhook.oneshot(Request::from_parts(head.clone(), upload())).await.expect("an answer");
    app.oneshot(Request::from_parts(head, upload())).await.expect("an answer");
    assert_eq!(*ends.lock().expect("no panic"), [expected; 2], "{what}");
}

async fn not_found<B>(_: Request<B>) -> Result<http::Response<String>, Infallible> {
    panic!("this path is the webhook's")
}

#[tokio::test]
async fn a_secret_in_the_query() -> Result<(), InvalidAccess> {
    let one = Access::query("key", NEW)?;
    let both = Access::query("key", NEW)?.or_secret(OLD)?;
    let plus = "new:+s%C3%A9cret%26%3D%2B%2520?";
    for (query, expected) in [
        (format!("?key={}", encoded(NEW)), BY_NEW),
        (format!("?key={plus}"), BY_NEW),
        (format!("?a=b&key={plus}&c"), BY_NEW),
        (format!("?%6Bey={plus}"), BY_NEW),
        (format!("?key={plus}&"), BY_NEW),
        (format!("?key={plus}&keys=other&KEY=x"), BY_NEW),
        (String::new(), REFUSED),
        ("?".into(), REFUSED),
        ("?key".into(), REFUSED),
        ("?key=".into(), REFUSED),
        (format!("?{plus}"), REFUSED),
        (format!("?KEY={plus}"), REFUSED),
        (format!("?key={plus}x"), REFUSED),
        (format!("?key=x{plus}"), REFUSED),
        (format!("?key={}", &plus[..plus.len() - 1]), REFUSED),
        (format!("?key={}", plus.to_uppercase()), REFUSED),
        (format!("?key={plus}&key={plus}"), REFUSED),
        (format!("?key=wrong&key={plus}"), REFUSED),
        (format!("?key={plus}&key="), REFUSED),
        (format!("?key[]={plus}"), REFUSED),
    ] {
        check(&one, to(&format!("/hook{query}")), expected).await;
        check(&both, to(&format!("/hook{query}")), expected).await;
    }
    check(&one, to(&format!("/hook?key={OLD}")), REFUSED).await;
    check(&both, to(&format!("/hook?key={OLD}")), BY_OLD).await;
    check(&both, to(&format!("/hook?key={OLD}&key={plus}")), REFUSED).await;
    check(&both, with("authorization", &[format!("Bearer {OLD}")]), REFUSED).await;
    Ok(())
}

#[tokio::test]
async fn a_bearer_token() -> Result<(), InvalidAccess> {
    let access = Access::bearer(NEW)?.or_secret(OLD)?;
    let new = format!("Bearer {NEW}");
    let old = |scheme: &str, end: &str| format!("{scheme}{OLD}{end}");
    for (values, expected) in [
        (vec![new.clone()], BY_NEW),
        (vec![old("Bearer ", "")], BY_OLD),
        (vec![old("bearer ", "")], BY_OLD),
        (vec![old("BEARER  ", " ")], BY_OLD),
        (vec![], REFUSED),
        (vec![String::new()], REFUSED),
        (vec!["Bearer".into()], REFUSED),
        (vec!["Bearer ".into()], REFUSED),
        (vec![old("", "")], REFUSED),
        (vec![old("Bearer", "")], REFUSED),
        (vec![old("Basic ", "")], REFUSED),
        (vec![old("Bearer ", "x")], REFUSED),
        (vec![new.clone(), new.clone()], REFUSED),
        (vec![new, "Basic abc".into()], REFUSED),
    ] {
        check(&access, with("authorization", &values), expected).await;
    }
    check(&access, with("authorization", &[b"Bearer \xff\xff"]), REFUSED).await;
    Ok(())
}

#[tokio::test]
async fn a_user_and_a_password() -> Result<(), InvalidAccess> {
    let access = Access::basic("firstpromoter", NEW)?.or_secret(OLD)?;
    let right = basic(&format!("firstpromoter:{NEW}"));
    for (values, expected) in [
        (vec![right.clone()], BY_NEW),
        (vec![right.replace("Basic", "basic")], BY_NEW),
        (vec![basic(&format!("firstpromoter:{OLD}"))], BY_OLD),
        (vec![], REFUSED),
        (vec!["Basic".into()], REFUSED),
        (vec!["Basic !!!".into()], REFUSED),
        (vec![format!("Basic firstpromoter:{OLD}")], REFUSED),
        (vec![basic(OLD)], REFUSED),
        (vec![basic(&format!(":{OLD}"))], REFUSED),
        (vec![basic(&format!("firstpromoter:{OLD}:"))], REFUSED),
        (vec![basic(&format!("FirstPromoter:{OLD}"))], REFUSED),
        (vec![basic("firstpromoter:wrong")], REFUSED),
        (vec![basic("firstpromoter:")], REFUSED),
        (vec![right.clone(), right], REFUSED),
    ] {
        check(&access, with("authorization", &values), expected).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_header() -> Result<(), InvalidAccess> {
    let access = Access::header(KEY, NEW)?.or_secret(OLD)?;
    for (values, expected) in [
        (&[NEW][..], BY_NEW),
        (&[OLD], BY_OLD),
        (&[], REFUSED),
        (&[""], REFUSED),
        (&["wrong"], REFUSED),
        (&[OLD, OLD], REFUSED),
        (&["wrong", OLD], REFUSED),
        (&[&encoded(OLD)], REFUSED),
    ] {
        check(&access, with("X-Key", values), expected).await;
    }
    check(&access, with("x-keys", &[OLD]), REFUSED).await;
    Ok(())
}

#[tokio::test]
async fn the_path_itself() -> Result<(), InvalidAccess> {
    let access = Access::secret_path(NEW)?.or_secret(OLD)?;
    for (path, expected) in [
        (format!("/hook/{OLD}"), BY_OLD),
        (format!("/hook/{OLD}/"), BY_OLD),
        (format!("/hook/{OLD}?a=b"), BY_OLD),
        (format!("/hook/{}", encoded(OLD)), BY_OLD),
        (format!("/hook/{}", encoded(NEW)), BY_NEW),
        ("/hook".into(), REFUSED),
        ("/hook/".into(), REFUSED),
        ("/hook/wrong".into(), REFUSED),
        (format!("/hook/{OLD}x"), REFUSED),
        (format!("/hook?{OLD}"), REFUSED),
        (format!("/hook?key={OLD}"), REFUSED),
    ] {
        check(&access, to(&path), expected).await;
    }
    // Mounted as a service, below whatever the framework has left of the path.
    for (path, expected) in [
        (format!("/{OLD}"), Verdict::Fulfilled),
        (format!("/a/b/{OLD}"), Verdict::Fulfilled),
        (format!("/{OLD}/more"), Verdict::Unauthorized),
    ] {
        let request = to(&path).body(full(DOCUMENTED)).expect("a request");
        let answer = open(access.clone()).oneshot(request).await.expect("an answer");
        assert_eq!(verdict(&answer), expected, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_function_and_anyone() {
    let mine = Access::custom(|head| head.headers.contains_key("x-mine"));
    check(&mine, to("/hook").header("x-mine", "1"), WITHOUT).await;
    check(&mine, to("/hook"), REFUSED).await;
    let panics = Access::custom(|_| panic!("the application's own"));
    check(&panics, to("/hook").header("x-mine", "1"), REFUSED).await;
    check(&Access::anyone(), to("/hook"), WITHOUT).await;
}

fn signed(key: &str, body: &[u8]) -> String {
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("keys of any length");
    hex::encode(mac.chain_update(body).finalize().into_bytes())
}

#[tokio::test]
async fn a_signature_of_the_body() -> Result<(), InvalidAccess> {
    let access = Access::signature(NEW)?.or_secret(OLD)?;
    let body = DOCUMENTED.as_bytes();
    let good = signed(NEW, body);
    let name = "X-Webhook-Signature";
    for (values, expected) in [
        (vec![good.clone()], BY_NEW),
        (vec![good.to_uppercase()], BY_NEW),
        (vec![signed(OLD, body)], BY_OLD),
        // No signature at all: the head suffices to refuse it.
        (vec![], REFUSED),
        (vec![String::new()], REFUSED),
        (vec!["x".repeat(64)], REFUSED),
        (vec![good[..62].into()], REFUSED),
        (vec![format!("{good}00")], REFUSED),
        (vec![format!("sha256={good}")], REFUSED),
        (vec![good.clone(), good.clone()], REFUSED),
    ] {
        check(&access, with(name, &values), expected).await;
    }

    // A wrong one is known by the body, which is then not decoded: it may be anything.
    let other = DOCUMENTED.replace("\"amount\": 3", "\"amount\": 9999");
    for (what, signature, body, expected) in [
        ("of another body", good.clone(), &other[..], Verdict::Unauthorized),
        ("by another key", signed("somebody else's key", body), DOCUMENTED, Verdict::Unauthorized),
        ("of nothing", signed(NEW, b""), DOCUMENTED, Verdict::Unauthorized),
        ("not even JSON", good.clone(), "{", Verdict::Unauthorized),
        ("good, and not JSON", signed(NEW, b"{"), "{", Verdict::NotJson),
        ("over the limit", good.clone(), &" ".repeat(10_000), Verdict::BodyTooLarge),
    ] {
        let request = with(name, &[signature]).body(full(body.to_owned())).expect("a request");
        let webhook = open(access.clone()).body_limit(5_000);
        let answer = webhook.oneshot(request).await.expect("an answer");
        assert_eq!(verdict(&answer), expected, "{what}");
    }
    Ok(())
}

/// The method first, then the secret, then the content type; all three by the head.
#[tokio::test]
async fn in_which_order_a_head_is_refused() -> Result<(), InvalidAccess> {
    let right = format!("/hook?key={OLD}");
    for (method, uri, content_type, expected) in [
        ("GET", "/hook", "text/plain", Verdict::MethodNotAllowed),
        ("POST", "/hook", "text/plain", Verdict::Unauthorized),
        ("POST", &right, "text/plain", Verdict::UnsupportedMediaType),
        ("POST", &right, "application/json", Verdict::BodyTooLarge),
    ] {
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("content-type", content_type);
        let request = request.header("content-length", "4000000000000000").body(Upload(None));
        let webhook = open(Access::query("key", OLD)?);
        let answer = webhook.oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!(verdict(&answer), expected);
    }
    Ok(())
}

#[test]
fn secrets_that_could_be_guessed_or_never_match_are_refused() -> Result<(), InvalidAccess> {
    use InvalidAccess::{Header, NoName, NoSecret, Path, Short, User, WhiteSpace};

    type Constructor = fn(&str) -> Result<Access, InvalidAccess>;
    const QUERY: Constructor = |secret| Access::query("key", secret);
    const BASIC: Constructor = |secret| Access::basic("a long user's name", secret);
    const HEADER: Constructor = |secret| Access::header(KEY, secret);
    const BEARER: Constructor = |secret| Access::bearer(secret);
    const PATH: Constructor = |secret| Access::secret_path(secret);
    const SIGNATURE: Constructor = |secret| Access::signature(secret);
    const ALL: [Constructor; 6] = [QUERY, BASIC, HEADER, BEARER, PATH, SIGNATURE];

    for (constructors, secret, expected) in [
        (&ALL[..], "", Some(Short)),
        (&ALL, "fifteen bytes!!", Some(Short)),
        (&ALL, "sixteen bytes!!!", None),
        // As `read_to_string` reads it.
        (&ALL, "a secret from a file\n", Some(WhiteSpace)),
        (&ALL, " a secret from a form", Some(WhiteSpace)),
        (&ALL, "a secret from a form\u{a0}", Some(WhiteSpace)),
        (&[HEADER, BEARER], "a secret\nof two lines", Some(Header)),
        (&[HEADER, BEARER], "a secret\rof two lines", Some(Header)),
        (&[HEADER, BEARER], "a secret with\0a NUL", Some(Header)),
        (&[PATH], "two/segments/of/a/path", Some(Path)),
        (&[PATH], "/begins with a slash", Some(Path)),
        (&[BASIC], "a secret\nof two lines", Some(User)),
        (&[BASIC], "a secret with\0a NUL", Some(User)),
        // In these places, they can arrive.
        (&[QUERY, BASIC, HEADER, BEARER, SIGNATURE], "two/segments and an é", None),
        (&[QUERY], "a secret\nof two lines", None),
        (&[PATH], "?a #sécret in the path", None),
    ] {
        for new in constructors {
            assert_eq!(new(secret).err(), expected, "{secret:?}");
            assert_eq!(new(OLD)?.or_secret(secret).err(), expected, "{secret:?}");
        }
    }
    assert_eq!(Access::query("", OLD).err(), Some(NoName));
    assert_eq!(Access::basic("a:user", OLD).err(), Some(User));
    assert_eq!(Access::basic("a\nuser", OLD).err(), Some(User));
    assert_eq!(Access::anyone().or_secret(OLD).err(), Some(NoSecret));
    assert_eq!(Access::custom(|_| true).or_secret(OLD).err(), Some(NoSecret));

    for (error, message) in [
        (Short, "a webhook's secret has at least 16 bytes"),
        (WhiteSpace, "a webhook's secret does not begin or end with white space"),
        (Header, "a header's secret has no control characters"),
        (Path, "a path's secret has no `/`"),
        (User, "a user has no colon, and neither user nor password has control characters"),
        (NoName, "a query parameter has a name"),
        (NoSecret, "this access has no secret to add another one to"),
    ] {
        assert_eq!(error.to_string(), message);
    }
    Ok(())
}

#[test]
fn debug_redacts() -> Result<(), InvalidAccess> {
    for (access, expected) in [
        (Access::query("key", NEW)?.or_secret(OLD)?, "Query(\"key\", [redacted])"),
        (Access::bearer(NEW)?.or_secret(OLD)?, "Bearer([redacted])"),
        (Access::basic("user", NEW)?.or_secret(OLD)?, "Basic([redacted])"),
        (Access::header(KEY, NEW)?.or_secret(OLD)?, "Header(\"x-key\", [redacted])"),
        (Access::secret_path(NEW)?.or_secret(OLD)?, "SecretPath([redacted])"),
        (Access::signature(NEW)?.or_secret(OLD)?, "Signature([redacted])"),
        (Access::custom(|_| true), "Custom(..)"),
        (Access::anyone(), "Anyone"),
    ] {
        assert_eq!(format!("{access:?}"), expected);
        let webhook = open(access);
        let layer = webhook.clone().at("/hook");
        let app = layer.layer("an application");
        for shown in [format!("{webhook:?}"), format!("{layer:?}"), format!("{app:#?}")] {
            assert!(shown.contains(expected), "{shown}");
            assert!(!shown.contains(OLD) && !shown.contains("cret&"), "{shown}");
        }
    }
    Ok(())
}

#[test]
fn paths_that_could_never_match_are_refused() -> Result<(), InvalidAccess> {
    let refusal = |access: Access, path: &str| {
        let panic =
            catch_unwind(AssertUnwindSafe(|| open(access).at(path))).expect_err("it is refused");
        panic
            .downcast::<String>()
            .map(|text| *text)
            .unwrap_or_else(|panic| (*panic.downcast::<&str>().expect("a text")).to_owned())
    };
    for (path, problem) in [
        ("", "it must start with `/`"),
        ("hook", "it must start with `/`"),
        ("https://example.com/hook", "it must start with `/`"),
        ("/hook?key=a", "it must have no query and no fragment"),
        ("/hook#a", "it must have no query and no fragment"),
        ("/{id}", "it is compared as it stands, without parameters and wildcards"),
        ("/hook/*", "it is compared as it stands, without parameters and wildcards"),
        ("/:id", "it is compared as it stands, without parameters and wildcards"),
        ("//", "it has two slashes in a row"),
        ("/hook//", "it has two slashes in a row"),
        ("/a/../hook", "clients resolve `.` and `..` before they send"),
        ("/hook ", "it must be percent-encoded, as it comes over the wire"),
        ("/hök", "it must be percent-encoded, as it comes over the wire"),
    ] {
        assert_eq!(
            refusal(Access::query("key", OLD)?, path),
            format!("`Webhook::at({path:?})` would never match a request: {problem}")
        );
    }
    assert_eq!(
        refusal(Access::secret_path(OLD)?, "/"),
        "`Webhook::at(\"/\")` with a secret path would take every path of one segment"
    );
    drop(open(Access::secret_path(OLD)?).at("/hook"));
    for path in ["/", "/a", "/a/b/", "/a%20b", "/.well-known/a", "/a:b"] {
        drop(open(Access::query("key", OLD)?).at(path));
    }
    Ok(())
}

/// With the secret in the path, one more segment is the webhook's, whatever it says.
#[tokio::test]
async fn which_paths_are_the_webhooks() -> Result<(), InvalidAccess> {
    for (path, secret_below, request, expected) in [
        ("/hook", false, "/hook", true),
        ("/hook", false, "/hook/", true),
        ("/hook/", false, "/hook", true),
        ("/hook", false, "/hook//", false),
        ("/hook", false, "/hooks", false),
        ("/hook", false, "/hook/secret", false),
        ("/hook", false, "/Hook", false),
        ("/hook", false, "/", false),
        ("/hook", false, "*", false),
        ("/", false, "/", true),
        ("/", false, "/hook", false),
        ("/h%6Fok", false, "/hook", false),
        ("/hook", true, "/hook/secret", true),
        ("/hook", true, "/hook/secret/", true),
        ("/hook", true, "/hook", true),
        ("/hook", true, "/hook/secret/more", false),
        ("/hook", true, "/hooksecret", false),
    ] {
        let access =
            if secret_below { Access::secret_path(OLD)? } else { Access::query("key", OLD)? };
        let app = service_fn(async |_| Ok::<_, Infallible>(http::Response::new(String::new())));
        let app = open(access).at(path).layer(app);
        let answer = app.oneshot(to(request).body(Upload(None)).expect("a request"));
        let found = answer.await.expect("an answer").extensions().get::<Verdict>().copied();
        let expected = expected.then_some(Verdict::Unauthorized);
        assert_eq!(found, expected, "{path} {secret_below} {request}");
    }
    Ok(())
}

#[tokio::test]
async fn what_counts_as_plain_json() {
    for (content_type, encoding, expected) in [
        (Some("application/json"), None, true),
        (Some("Application/JSON; charset=utf-8"), None, true),
        (Some("application/json"), Some("identity"), true),
        (Some("application/vnd.api+json"), None, true),
        (Some("application/json"), Some("gzip"), false),
        (Some("application/x-www-form-urlencoded"), None, false),
        (Some("text/json"), None, false),
        (Some("text/x+json"), None, false),
        (Some("application/jsonp"), None, false),
        (Some(""), None, false),
        (None, None, false),
    ] {
        let heads = [("content-type", content_type), ("content-encoding", encoding)];
        let request = heads.into_iter().fold(Request::post("/hook"), |request, (name, value)| {
            if let Some(value) = value { request.header(name, value) } else { request }
        });
        let upload = Upload(expected.then(|| DOCUMENTED.into()));
        let answer = open(Access::anyone()).oneshot(request.body(upload).expect("a request"));
        let found = verdict(&answer.await.expect("an answer"));
        let expected = if expected { Verdict::Fulfilled } else { Verdict::UnsupportedMediaType };
        assert_eq!(found, expected, "{content_type:?} {encoding:?}");
    }
}
