use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use subtle::{Choice, ConstantTimeEq};

use crate::{Verdict, event::Secret};

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;

/// Who may call the webhook.
///
/// FirstPromoter signs none of these deliveries, so anyone who knows the URL could post a reward.
/// What tells the real sender is a secret in the URL that was given to FirstPromoter, or a header
/// that a proxy in front adds.
///
/// Secrets are compared in constant time (their length may show). Several may be live at once, so
/// that one can be replaced without losing a delivery: accept the new one too, change the URL in
/// FirstPromoter, then drop the old one.
///
/// ```
/// use tower_firstpromoter::Access;
///
/// let access = Access::query("key", "the new secret, 2026").or("the old secret, 2025");
/// assert!(!format!("{access:?}").contains("secret, 20")); // `Debug` redacts
/// ```
///
/// # Panics
///
/// Every constructor that takes a secret, and [`or`](Access::or), panic if it has fewer than 16
/// bytes, or begins or ends with white space, as what is read from a file may: better at the start than
/// open to guessing, or closed to everyone.
#[derive(Clone)]
pub struct Access(Kind);

#[derive(Clone)]
enum Kind {
    Anyone,
    Query {
        name: Box<str>,
        secrets: Secrets,
    },
    Bearer {
        secrets: Secrets,
    },
    Basic {
        user: Box<str>,
        secrets: Secrets,
    },
    Header {
        name: HeaderName,
        secrets: Secrets,
    },
    SecretPath {
        secrets: Secrets,
    },
    #[cfg(feature = "hmac")]
    Signature {
        secrets: Secrets,
    },
    Custom(Arc<dyn Fn(&Parts) -> bool + Send + Sync>),
}

impl Access {
    /// A secret in the query: `https://example.com/webhooks/firstpromoter?key=SECRET`.
    ///
    /// The parameter must be there exactly once. Letters and digits need no escaping, as
    /// `openssl rand -hex 24` prints them; a `+` means a blank in a query. See [`Access`] for an
    /// example.
    #[track_caller]
    pub fn query(name: impl Into<Box<str>>, secret: impl AsRef<str>) -> Self {
        Self(Kind::Query { name: name.into(), secrets: Secrets::new(secret.as_ref()) })
    }

    /// A header `Authorization: Bearer SECRET`.
    ///
    /// ```
    /// # use tower_firstpromoter::Access;
    /// let access = Access::bearer("at least sixteen bytes");
    /// ```
    #[track_caller]
    pub fn bearer(secret: impl AsRef<str>) -> Self {
        Self(Kind::Bearer { secrets: Secrets::new(secret.as_ref()) })
    }

    /// A user and a password in the URL: `https://USER:SECRET@example.com/webhooks/firstpromoter`,
    /// which arrives as HTTP Basic.
    ///
    /// ```
    /// # use tower_firstpromoter::Access;
    /// let access = Access::basic("firstpromoter", "at least sixteen bytes");
    /// ```
    #[track_caller]
    pub fn basic(user: impl Into<Box<str>>, password: impl AsRef<str>) -> Self {
        let user = user.into();
        let token = basic_token(&user, checked(password.as_ref()));
        Self(Kind::Basic { secrets: Secrets(vec![token.into()]), user })
    }

    /// A secret in a header of this name, which must be there exactly once.
    ///
    /// ```
    /// # use tower_firstpromoter::Access;
    /// use http::HeaderName;
    ///
    /// let access = Access::header(HeaderName::from_static("x-webhook-key"), "at least sixteen bytes");
    /// ```
    #[track_caller]
    pub fn header(name: HeaderName, secret: impl AsRef<str>) -> Self {
        Self(Kind::Header { name, secrets: Secrets::new(secret.as_ref()) })
    }

    /// The path's last segment is the secret: `https://example.com/webhooks/firstpromoter/SECRET`.
    ///
    /// For URLs that may have no query. [`Webhook::at`](crate::Webhook::at) is then given the path
    /// above it, here `/webhooks/firstpromoter`.
    ///
    /// ```
    /// # use tower_firstpromoter::Access;
    /// let access = Access::secret_path("at-least-sixteen-bytes");
    /// ```
    #[track_caller]
    pub fn secret_path(secret: impl AsRef<str>) -> Self {
        Self(Kind::SecretPath { secrets: Secrets::new(secret.as_ref()) })
    }

    /// A signature of the body, as FirstPromoter's newer webhooks were described to bear: a header
    /// `X-Webhook-Signature` with the HMAC-SHA256 of the raw body in hex, under the subscription's
    /// secret key.
    ///
    /// The body is read up to the limit for it, and decoded only if the signature holds.
    ///
    /// ```
    /// # use tower_firstpromoter::Access;
    /// let access = Access::signature("the subscription's secret_key");
    /// ```
    #[cfg(feature = "hmac")]
    #[cfg_attr(docsrs, doc(cfg(feature = "hmac")))]
    #[track_caller]
    pub fn signature(secret_key: impl AsRef<str>) -> Self {
        Self(Kind::Signature { secrets: Secrets::new(secret_key.as_ref()) })
    }

    /// Whoever this function lets in, by the request's head. A panic in it lets nobody in.
    ///
    /// ```
    /// # use tower_firstpromoter::Access;
    /// // Behind a proxy that has checked the client's certificate.
    /// let access = Access::custom(|head| head.headers.contains_key("x-client-verified"));
    /// ```
    pub fn custom(admits: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(admits)))
    }

    /// Anyone at all. Only where something in front has already decided: whoever reaches this
    /// webhook can grant themselves rewards.
    ///
    /// ```
    /// # use tower_firstpromoter::Access;
    /// let access = Access::anyone();
    /// ```
    pub fn anyone() -> Self {
        Self(Kind::Anyone)
    }

    /// Accepts this secret as well, in the same place (with [`basic`](Access::basic): for the same
    /// user). See [`Access`] for an example.
    ///
    /// # Panics
    ///
    /// Also for [`anyone`](Access::anyone) and [`custom`](Access::custom), which have no secret.
    #[track_caller]
    #[must_use]
    pub fn or(mut self, secret: impl AsRef<str>) -> Self {
        let secret = checked(secret.as_ref());
        match &mut self.0 {
            Kind::Basic { user, secrets } => {
                secrets.0.push(Secret::from(basic_token(user, secret)));
            }
            Kind::Query { secrets, .. }
            | Kind::Bearer { secrets }
            | Kind::Header { secrets, .. }
            | Kind::SecretPath { secrets } => secrets.0.push(Secret::from(secret)),
            #[cfg(feature = "hmac")]
            Kind::Signature { secrets } => secrets.0.push(Secret::from(secret)),
            Kind::Anyone | Kind::Custom(_) => {
                panic!("this `Access` has no secret to add another to")
            }
        }
        self
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0, Kind::Anyone)
    }

    pub(crate) fn is_secret_path(&self) -> bool {
        matches!(self.0, Kind::SecretPath { .. })
    }

    pub(super) fn admit(&self, head: &Parts) -> Result<(), Verdict> {
        let admitted =
            match &self.0 {
                Kind::Anyone => true,
                Kind::Query { name, secrets } => {
                    let query = head.uri.query().unwrap_or_default();
                    if query.contains(['%', '+']) {
                        let pairs = form_urlencoded::parse(query.as_bytes());
                        named(pairs, name).is_some_and(|value| secrets.contain(value.as_bytes()))
                    } else {
                        // Nothing to decode.
                        let pairs = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
                        named(pairs, name).is_some_and(|value| secrets.contain(value.as_bytes()))
                    }
                }
                Kind::Bearer { secrets } => authorization(&head.headers, "bearer")
                    .is_some_and(|token| secrets.contain(token)),
                Kind::Basic { secrets, .. } => authorization(&head.headers, "basic")
                    .is_some_and(|token| secrets.contain(token)),
                Kind::Header { name, secrets } => only(head.headers.get_all(name).iter())
                    .is_some_and(|value| secrets.contain(value.as_bytes())),
                Kind::SecretPath { secrets } => {
                    let path = head.uri.path();
                    let path = path.strip_suffix('/').unwrap_or(path);
                    let segment = path.rsplit('/').next().unwrap_or_default();
                    let segment: std::borrow::Cow<'_, [u8]> =
                        percent_encoding::percent_decode_str(segment).into();
                    secrets.contain(&segment)
                }
                // The body decides, once it is there; a head without a signature need not wait.
                #[cfg(feature = "hmac")]
                Kind::Signature { .. } => signature(&head.headers).is_some(),
                Kind::Custom(admits) => {
                    catch_unwind(AssertUnwindSafe(|| admits(head))).unwrap_or(false)
                }
            };
        if admitted { Ok(()) } else { Err(Verdict::Unauthorized) }
    }

    /// Whether the body has a say, and the head is needed until then.
    pub(super) fn judges_body(&self) -> bool {
        match self.0 {
            #[cfg(feature = "hmac")]
            Kind::Signature { .. } => true,
            _ => false,
        }
    }

    #[cfg(not(feature = "hmac"))]
    pub(super) fn admits_body(&self, _: Option<&Parts>, _: &[u8]) -> bool {
        true
    }

    #[cfg(feature = "hmac")]
    pub(super) fn admits_body(&self, head: Option<&Parts>, body: &[u8]) -> bool {
        use hmac::{Hmac, KeyInit, Mac};

        let Kind::Signature { secrets } = &self.0 else { return true };
        let Some(signature) = head.and_then(|head| signature(&head.headers)) else { return false };
        let signed = |secret: &Secret| {
            let mac = Hmac::<sha2::Sha256>::new_from_slice(secret.expose().as_bytes());
            // HMAC takes keys of any length, so this is always `Ok`.
            mac.is_ok_and(|mac| mac.chain_update(body).verify_slice(&signature).is_ok())
        };
        // No short cut, so that it does not show which of them it is.
        secrets.0.iter().fold(false, |found, secret| found | signed(secret))
    }

    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        match self.0 {
            Kind::Bearer { .. } => Some(HeaderValue::from_static("Bearer")),
            Kind::Basic { .. } => Some(HeaderValue::from_static("Basic realm=\"webhook\"")),
            _ => None,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Anyone => f.write_str("Anyone"),
            Kind::Query { name, .. } => write!(f, "Query({name:?}, [redacted])"),
            Kind::Bearer { .. } => f.write_str("Bearer([redacted])"),
            Kind::Basic { .. } => f.write_str("Basic([redacted])"),
            Kind::Header { name, .. } => write!(f, "Header({:?}, [redacted])", name.as_str()),
            Kind::SecretPath { .. } => f.write_str("SecretPath([redacted])"),
            #[cfg(feature = "hmac")]
            Kind::Signature { .. } => f.write_str("Signature([redacted])"),
            Kind::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

#[derive(Clone)]
struct Secrets(Vec<Secret>);

impl Secrets {
    #[track_caller]
    fn new(secret: &str) -> Self {
        Self(vec![Secret::from(checked(secret))])
    }

    /// Compares with all of them, so that it does not show which one it is.
    fn contain(&self, candidate: &[u8]) -> bool {
        let found = self.0.iter().fold(Choice::from(0), |found, secret| {
            found | secret.expose().as_bytes().ct_eq(candidate)
        });
        found.into()
    }
}

#[track_caller]
fn checked(secret: &str) -> &str {
    assert!(
        secret.len() >= SHORTEST,
        "a webhook's secret needs at least {SHORTEST} bytes, and this one has {}",
        secret.len(),
    );
    assert!(
        secret.trim() == secret,
        "a webhook's secret must not begin or end with white space, such as the end of a line",
    );
    secret
}

fn basic_token(user: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:{password}"))
}

/// What stands behind the scheme in the one `Authorization` header.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a [u8]> {
    let value = only(headers.get_all(header::AUTHORIZATION).iter())?.as_bytes();
    let (found, token) = value.split_at_checked(scheme.len())?;
    if !found.eq_ignore_ascii_case(scheme.as_bytes()) {
        return None;
    }
    token.strip_prefix(b" ").map(<[u8]>::trim_ascii)
}

#[cfg(feature = "hmac")]
fn signature(headers: &HeaderMap) -> Option<[u8; 32]> {
    let hexadecimal = only(headers.get_all("x-webhook-signature").iter())?;
    let mut signature = [0; 32];
    hex::decode_to_slice(hexadecimal.as_bytes(), &mut signature).ok()?;
    Some(signature)
}

fn named<T: AsRef<str>>(pairs: impl Iterator<Item = (T, T)>, name: &str) -> Option<T> {
    only(pairs.filter_map(|(found, value)| (found.as_ref() == name).then_some(value)))
}

/// The one there is: of two, the first check in front may have looked at the other.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let item = items.next()?;
    items.next().is_none().then_some(item)
}
