//! The decision on a request's head, before a byte of the body is read.

use http::{HeaderMap, Method, header, request::Parts};

use super::settings::Settings;
use crate::Verdict;

/// Authorizes a request by its head; returns the position of the secret, if the head has one.
pub(super) fn admit(head: &Parts, settings: &Settings) -> Result<Option<usize>, Verdict> {
    if head.method != Method::POST {
        return Err(Verdict::MethodNotAllowed);
    }
    let secret = settings.access.admit(head)?;
    if !is_plain_json(&head.headers) {
        return Err(Verdict::UnsupportedMediaType);
    }
    match content_length(&head.headers) {
        Some(length) if length > settings.body_limit as u64 => Err(Verdict::BodyTooLarge),
        _ => Ok(secret),
    }
}

/// `application/json` or a type built on it, whatever its parameters, and not compressed.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let plain = headers
        .get(header::CONTENT_ENCODING)
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let Some(Ok(content_type)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str())
    else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let suffix = subtype.rsplit('+').next().unwrap_or_default();
    plain && kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

/// The announced length: enough to refuse by, never to allocate by.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
