//! Reads members of any type: a value of an unexpected type is `None`, not an error.
//!
//! A scalar is taken as the text it was sent in. `serde_json` would refuse the delivery for a number
//! too large for it, or for half of a surrogate pair.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{BytesDeserializer, MapAccessDeserializer},
    },
};
use serde_json::value::RawValue;

use super::ids;

/// Any JSON value, of which only the scalars are kept.
#[derive(Debug, Default)]
pub(super) enum Scalar<'a> {
    /// Missing or `null`.
    #[default]
    Absent,
    Bool(bool),
    /// As it was sent, with all digits.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// An array, an object, or a string that is not valid text.
    Other,
}

impl<'a> From<&'a RawValue> for Scalar<'a> {
    fn from(json: &'a RawValue) -> Self {
        let json = json.get();
        match json.as_bytes()[0] {
            b'"' if json.contains('\\') => serde_json::from_str::<String>(json)
                .map_or(Self::Other, |text| Self::Text(Cow::Owned(text))),
            b'"' => Self::Text(Cow::Borrowed(&json[1..json.len() - 1])),
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'n' => Self::Absent,
            b'[' | b'{' => Self::Other,
            _ => Self::Number(json),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(input).map(Self::from)
    }
}

impl<'a> Scalar<'a> {
    /// Text and numbers as they were sent; `""` is unknown.
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Number(number) => Some(Cow::Borrowed(number)),
            text => text.into(),
        }
    }

    /// Whether it is missing, `null` or `""`.
    pub(super) fn is_absent(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Text(text) => text.is_empty(),
            _ => false,
        }
    }
}

/// Text only, unlike [`Scalar::into_text`].
impl<'a> From<Scalar<'a>> for Option<Cow<'a, str>> {
    fn from(value: Scalar<'a>) -> Self {
        match value {
            Scalar::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl From<Scalar<'_>> for Option<String> {
    fn from(value: Scalar<'_>) -> Self {
        value.into_text().map(Cow::into_owned)
    }
}

/// A whole number, or a string of its digits.
impl From<Scalar<'_>> for Option<u64> {
    fn from(value: Scalar<'_>) -> Self {
        ids::parse(&value.into_text()?)
    }
}

impl From<Scalar<'_>> for Option<bool> {
    fn from(value: Scalar<'_>) -> Self {
        match value {
            Scalar::Bool(value) => Some(value),
            _ => None,
        }
    }
}

/// The expected type of a payload's member, whose value may be of any other type.
pub(super) trait Member<'de>: Sized {
    fn read(json: &'de RawValue) -> serde_json::Result<Self>;
}

impl<'de, T> Member<'de> for Option<T>
where
    Option<T>: From<Scalar<'de>>,
{
    fn read(json: &'de RawValue) -> serde_json::Result<Self> {
        Ok(Scalar::from(json).into())
    }
}

/// Deserializes a member of [`Details`](super::Details).
pub(super) fn member<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Member<'de>,
{
    T::read(<&RawValue>::deserialize(input)?).map_err(D::Error::custom)
}

/// Deserializes an object in one pass. Unlike [`member`], fails on numbers and strings that the
/// parser refuses.
pub(super) fn object<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    input.deserialize_any(MembersVisitor(PhantomData))
}

/// Parses an object; any other value is `None`, whether or not it is JSON.
///
/// Fails if the text is not JSON, or if a member of `T` occurs twice, which
/// [`is_data`](serde_json::Error::is_data) tells.
pub(super) fn members<'de, T>(json: &'de str) -> serde_json::Result<Option<T>>
where
    T: Deserialize<'de>,
{
    if !json.trim_ascii_start().starts_with('{') {
        return Ok(None);
    }
    let mut input = serde_json::Deserializer::from_str(json);
    let members = input.deserialize_any(MembersVisitor(PhantomData))?;
    input.end()?;
    Ok(members)
}

struct MembersVisitor<T>(PhantomData<T>);

macro_rules! ignored {
    ($($visit:ident($value:ty)),*) => {
        $(fn $visit<E>(self, _: $value) -> Result<Option<T>, E> {
            Ok(None)
        })*
    };
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for MembersVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(Members(map))).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Option<T>, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    ignored! { visit_str(&str), visit_u64(u64), visit_i64(i64), visit_f64(f64), visit_bool(bool) }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// The members of an object, whose names may be any string of JSON.
struct Members<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<K>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error>
    where
        K: DeserializeSeed<'de>,
    {
        self.0.next_key_seed(Name(seed))
    }

    fn next_value_seed<V>(&mut self, seed: V) -> Result<V::Value, A::Error>
    where
        V: DeserializeSeed<'de>,
    {
        self.0.next_value_seed(seed)
    }
}

/// The name of a member: any string of JSON, half of a surrogate pair included.
struct Name<K>(K);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Name<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<K::Value, D::Error> {
        input.deserialize_bytes(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for Name<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<K::Value, E> {
        self.0.deserialize(BytesDeserializer::new(name))
    }

    fn visit_borrowed_bytes<E: Error>(self, name: &'de [u8]) -> Result<K::Value, E> {
        // Read as bytes, a string may have control characters, which JSON must escape.
        if name.iter().any(|&byte| byte < b' ') {
            return Err(E::custom("control character in a name"));
        }
        self.visit_bytes(name)
    }
}
