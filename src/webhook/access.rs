use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::{Verdict, event::Secret, observe::message};

/// The shortest secret, in bytes. A shorter one can be guessed.
const SHORTEST: usize = 16;

/// Authorizes deliveries.
///
/// FirstPromoter does not sign these deliveries. What identifies the sender is a secret in the URL that
/// was given to FirstPromoter, or a header that a proxy adds.
///
/// Secrets are compared in constant time; their length may show. Several may be live at once, so
/// that one can be replaced without losing a delivery: accept the new one as well, change the URL
/// in FirstPromoter, and drop the old one when
/// [no delivery uses it](crate::observe::DeliveryEvent::Answered) any more.
///
/// ```
/// use tower_firstpromoter::{Access, InvalidAccess};
///
/// let access = Access::query("key", "the new secret, 2026")?.or_secret("the old secret, 2025")?;
/// assert_eq!(format!("{access:?}"), "Query(\"key\", [redacted])");
/// let basic = Access::basic("firstpromoter", "at least sixteen bytes")?;
/// let proxied = Access::custom(|head| head.headers.contains_key("x-client-verified"));
/// assert_eq!(Access::bearer("guess me").unwrap_err(), InvalidAccess::Short);
/// # Ok::<(), InvalidAccess>(())
/// ```
///
/// # Errors
///
/// Every constructor that takes a secret, and [`or_secret`](Access::or_secret), refuse one that has
/// fewer than 16 bytes, begins or ends with white space, or can never arrive where it is expected.
/// [`InvalidAccess`] lists the cases. [`anyone`](Access::anyone) and [`custom`](Access::custom) have no
/// secret to add another one to.
#[derive(Clone)]
pub struct Access(Kind);

#[derive(Clone)]
enum Kind {
    Anyone,
    Secret { place: Place, secrets: Secrets },
    Custom(Arc<dyn Fn(&Parts) -> bool + Send + Sync>),
}

/// Where a secret is looked for.
#[derive(Clone)]
enum Place {
    /// In the parameter of this name.
    Query(Box<str>),
    Bearer,
    /// As the password of this user.
    Basic(Box<str>),
    Header(HeaderName),
    SecretPath,
    #[cfg(feature = "hmac")]
    Signature,
}

impl Access {
    /// Expects a secret in the query: `https://example.com/webhooks/firstpromoter?key=SECRET`.
    ///
    /// The parameter must be there exactly once. Letters and digits need no escaping, as
    /// `openssl rand -hex 24` prints them; a `+` means a space in a query.
    /// See [`Access`] for its errors and an example.
    pub fn query(
        name: impl Into<Box<str>>,
        secret: impl AsRef<str>,
    ) -> Result<Self, InvalidAccess> {
        let name = name.into();
        if name.is_empty() {
            return Err(InvalidAccess::NoName);
        }
        Self::with_secret(Place::Query(name), secret.as_ref())
    }

    /// Expects a header `Authorization: Bearer SECRET`. See [`Access`] for its errors and an example.
    pub fn bearer(secret: impl AsRef<str>) -> Result<Self, InvalidAccess> {
        Self::with_secret(Place::Bearer, secret.as_ref())
    }

    /// Expects a user and a password in the URL: `https://USER:SECRET@example.com/webhooks/firstpromoter`,
    /// which arrives as HTTP Basic.
    /// See [`Access`] for its errors and an example.
    pub fn basic(
        user: impl Into<Box<str>>,
        password: impl AsRef<str>,
    ) -> Result<Self, InvalidAccess> {
        let user = user.into();
        if user.contains(|c: char| c == ':' || c.is_control()) {
            return Err(InvalidAccess::User);
        }
        Self::with_secret(Place::Basic(user), password.as_ref())
    }

    /// Expects a secret in a header of this name, which must be there exactly once.
    /// See [`Access`] for its errors and an example.
    pub fn header(name: HeaderName, secret: impl AsRef<str>) -> Result<Self, InvalidAccess> {
        Self::with_secret(Place::Header(name), secret.as_ref())
    }

    /// Expects the secret as the path's last segment:
    /// `https://example.com/webhooks/firstpromoter/SECRET`.
    ///
    /// For where queries are dropped or logged. [`Webhook::at`](crate::Webhook::at) is then given
    /// the path above it, here `/webhooks/firstpromoter`.
    /// See [`Access`] for its errors and an example.
    pub fn secret_path(secret: impl AsRef<str>) -> Result<Self, InvalidAccess> {
        Self::with_secret(Place::SecretPath, secret.as_ref())
    }

    /// Expects a signature of the body, as was once documented for FirstPromoter's newer webhooks:
    /// a header `X-Webhook-Signature` with the HMAC-SHA256 of the raw body in hex, under the
    /// subscription's secret key.
    ///
    /// The body is read up to [`body_limit`](crate::Webhook::body_limit), and decoded only if the
    /// signature matches.
    /// See [`Access`] for its errors and an example.
    #[cfg(feature = "hmac")]
    pub fn signature(secret_key: impl AsRef<str>) -> Result<Self, InvalidAccess> {
        Self::with_secret(Place::Signature, secret_key.as_ref())
    }

    /// Admits a delivery if `admits` returns `true` for its head. A panic in it refuses the delivery. See
    /// [`Access`] for an example.
    pub fn custom(admits: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(admits)))
    }

    /// Admits anyone. Only for a webhook behind something that authorizes: whoever reaches it can
    /// forge deliveries. See [`Access`] for the others.
    pub fn anyone() -> Self {
        Self(Kind::Anyone)
    }

    /// Accepts this secret as well, in the same place (with [`basic`](Access::basic): for the same
    /// user). See [`Access`] for its errors and an example.
    pub fn or_secret(mut self, secret: impl AsRef<str>) -> Result<Self, InvalidAccess> {
        let Kind::Secret { place, secrets } = &mut self.0 else {
            return Err(InvalidAccess::NoSecret);
        };
        secrets.0.push(place.secret(secret.as_ref())?);
        Ok(self)
    }

    fn with_secret(place: Place, secret: &str) -> Result<Self, InvalidAccess> {
        let secrets = Secrets(vec![place.secret(secret)?]);
        Ok(Self(Kind::Secret { place, secrets }))
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.0, Kind::Anyone)
    }

    pub(super) fn is_secret_path(&self) -> bool {
        matches!(self.0, Kind::Secret { place: Place::SecretPath, .. })
    }

    /// Authorizes by the head. Returns the position of the secret, if the head has one.
    pub(super) fn admit(&self, head: &Parts) -> Result<Option<usize>, Verdict> {
        let position = match &self.0 {
            Kind::Anyone => return Ok(None),
            Kind::Custom(admits) => {
                let admitted = catch_unwind(AssertUnwindSafe(|| admits(head))).map_err(message);
                let admitted = admitted.unwrap_or(false);
                return if admitted { Ok(None) } else { Err(Verdict::Unauthorized) };
            }
            // The body decides, once it is there; a head without a signature need not wait.
            #[cfg(feature = "hmac")]
            Kind::Secret { place: Place::Signature, .. } => {
                return match signature(&head.headers) {
                    Some(_) => Ok(None),
                    None => Err(Verdict::Unauthorized),
                };
            }
            Kind::Secret { place, secrets } => place.look(head, secrets),
        };
        position.map(Some).ok_or(Verdict::Unauthorized)
    }

    /// Tells whether the body decides, and the head is needed until then.
    pub(super) fn judges_body(&self) -> bool {
        match self.0 {
            #[cfg(feature = "hmac")]
            Kind::Secret { place: Place::Signature, .. } => true,
            _ => false,
        }
    }

    #[cfg(not(feature = "hmac"))]
    pub(super) fn admit_body(&self, _: Option<&Parts>, _: &[u8]) -> Result<Option<usize>, Verdict> {
        Ok(None)
    }

    /// Authorizes by the body's signature. Returns the position of the key.
    #[cfg(feature = "hmac")]
    pub(super) fn admit_body(
        &self,
        head: Option<&Parts>,
        body: &[u8],
    ) -> Result<Option<usize>, Verdict> {
        use hmac::{Hmac, KeyInit, Mac};

        let Kind::Secret { secrets, .. } = &self.0 else { return Ok(None) };
        let signature = head.and_then(|head| signature(&head.headers));
        let signature = signature.ok_or(Verdict::Unauthorized)?;
        let position = secrets.position(|secret| {
            let mac = Hmac::<sha2::Sha256>::new_from_slice(secret);
            // HMAC takes keys of any length, so this is always `Ok`.
            let signed =
                mac.is_ok_and(|mac| mac.chain_update(body).verify_slice(&signature).is_ok());
            Choice::from(u8::from(signed))
        });
        position.map(Some).ok_or(Verdict::Unauthorized)
    }

    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        match self.0 {
            Kind::Secret { place: Place::Bearer, .. } => Some(HeaderValue::from_static("Bearer")),
            Kind::Secret { place: Place::Basic(_), .. } => {
                Some(HeaderValue::from_static("Basic realm=\"webhook\""))
            }
            _ => None,
        }
    }
}

impl Place {
    /// Checks a secret for this place, and returns what is compared.
    fn secret(&self, secret: &str) -> Result<Secret, InvalidAccess> {
        if secret.len() < SHORTEST {
            return Err(InvalidAccess::Short);
        }
        if secret.trim() != secret {
            return Err(InvalidAccess::WhiteSpace);
        }
        Ok(match self {
            Self::Bearer | Self::Header(_) if HeaderValue::from_str(secret).is_err() => {
                return Err(InvalidAccess::Header);
            }
            Self::SecretPath if secret.contains('/') => return Err(InvalidAccess::Path),
            Self::Basic(_) if secret.contains(char::is_control) => {
                return Err(InvalidAccess::User);
            }
            Self::Basic(user) => Secret::from(BASE64_STANDARD.encode(format!("{user}:{secret}"))),
            _ => Secret::from(secret),
        })
    }

    fn look(&self, head: &Parts, secrets: &Secrets) -> Option<usize> {
        match self {
            Self::Query(name) => {
                let query = head.uri.query().unwrap_or_default();
                if query.contains(['%', '+']) {
                    let pairs = form_urlencoded::parse(query.as_bytes());
                    secrets.find(named(pairs, name)?.as_bytes())
                } else {
                    // Nothing to decode.
                    let pairs = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
                    secrets.find(named(pairs, name)?.as_bytes())
                }
            }
            Self::Bearer => secrets.find(authorization(&head.headers, "bearer")?),
            Self::Basic(_) => secrets.find(authorization(&head.headers, "basic")?),
            Self::Header(name) => secrets.find(only(head.headers.get_all(name).iter())?.as_bytes()),
            Self::SecretPath => {
                let path = head.uri.path();
                let path = path.strip_suffix('/').unwrap_or(path);
                let segment = path.rsplit('/').next().unwrap_or_default();
                let segment: Cow<'_, [u8]> = percent_encoding::percent_decode_str(segment).into();
                secrets.find(&segment)
            }
            #[cfg(feature = "hmac")]
            Self::Signature => None,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.0 {
            Kind::Anyone => return f.write_str("Anyone"),
            Kind::Custom(_) => return f.write_str("Custom(..)"),
            Kind::Secret { place, .. } => place,
        };
        match place {
            Place::Query(name) => write!(f, "Query({name:?}, [redacted])"),
            Place::Bearer => f.write_str("Bearer([redacted])"),
            Place::Basic(_) => f.write_str("Basic([redacted])"),
            Place::Header(name) => write!(f, "Header({:?}, [redacted])", name.as_str()),
            Place::SecretPath => f.write_str("SecretPath([redacted])"),
            #[cfg(feature = "hmac")]
            Place::Signature => f.write_str("Signature([redacted])"),
        }
    }
}

/// The error of an [`Access`] that could be guessed or never match. [`Access`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAccess {
    /// The secret is shorter than 16 bytes.
    #[error("a webhook's secret has at least {SHORTEST} bytes")]
    Short,
    /// The secret begins or ends with white space, such as the end of a line.
    #[error("a webhook's secret does not begin or end with white space")]
    WhiteSpace,
    /// No header can carry the secret.
    #[error("a header's secret has no control characters")]
    Header,
    /// A path segment cannot contain the secret.
    #[error("a path's secret has no `/`")]
    Path,
    /// The user has a colon, or user or password a control character.
    #[error("a user has no colon, and neither user nor password has control characters")]
    User,
    /// The query parameter's name is empty.
    #[error("a query parameter has a name")]
    NoName,
    /// There is no secret to add another one to.
    #[error("this access has no secret to add another one to")]
    NoSecret,
}

#[derive(Clone)]
struct Secrets(Vec<Secret>);

impl Secrets {
    fn find(&self, candidate: &[u8]) -> Option<usize> {
        self.position(|secret| secret.ct_eq(candidate))
    }

    /// Returns the position of the secret that matches. Tries all of them, so that it does not show
    /// which one it is.
    fn position(&self, matches: impl Fn(&[u8]) -> Choice) -> Option<usize> {
        let mut found = Choice::from(0);
        let mut position = 0;
        for (index, secret) in (0_u64..).zip(&self.0) {
            let this = matches(secret.expose().as_bytes());
            position.conditional_assign(&index, this & !found);
            found |= this;
        }
        bool::from(found).then_some(position as usize)
    }
}

/// Returns the credentials of the only `Authorization` header.
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

/// Returns the only item: of two, a check in front may have looked at the other one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let item = items.next()?;
    items.next().is_none().then_some(item)
}
