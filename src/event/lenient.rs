//! How a member that is not needed to grant is read: whatever it turns out to be, it never refuses
//! the delivery. Syntax errors still do, they are the parser's.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

/// Any JSON value, of which only the scalars are kept.
///
/// It is made of the value's own text, not by the parser: that would give up at a number too large
/// for it, or at half of a surrogate pair, and take the delivery with it.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    /// Not there, or null.
    Absent,
    Bool(bool),
    /// As it was sent.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// An array, an object, or text that stands for no characters.
    Other,
}

/// From the text of a JSON value.
impl<'a> From<&'a str> for Scalar<'a> {
    fn from(json: &'a str) -> Self {
        match json.as_bytes().first() {
            Some(b'"') if json.contains('\\') => serde_json::from_str::<String>(json)
                .map_or(Self::Other, |text| Self::Text(Cow::Owned(text))),
            Some(b'"') => json
                .get(1..json.len() - 1)
                .map_or(Self::Other, |text| Self::Text(Cow::Borrowed(text))),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') | None => Self::Absent,
            Some(b'[' | b'{') => Self::Other,
            Some(_) => Self::Number(json),
        }
    }
}

impl<'a> From<Option<&'a str>> for Scalar<'a> {
    fn from(json: Option<&'a str>) -> Self {
        json.map_or(Self::Absent, Self::from)
    }
}

impl Scalar<'_> {
    /// Text and numbers as they were sent; `""` is unknown.
    pub(super) fn into_text(self) -> Option<Box<str>> {
        match self {
            Self::Text(text) if text.is_empty() => None,
            Self::Text(text) => Some(text.into()),
            Self::Number(number) => Some(number.into()),
            _ => None,
        }
    }

    /// A whole number, or a string of its digits.
    pub(super) fn as_u64(&self) -> Option<u64> {
        let digits: &str = match self {
            Self::Number(number) => number,
            Self::Text(text) => text,
            _ => return None,
        };
        // `parse` alone would take a leading `+`.
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Nothing, by any of the sender's ways to say so.
    pub(super) fn is_absent(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Text(text) => text.is_empty(),
            _ => false,
        }
    }
}

/// The visitor's answer for every scalar, where only an array or an object is of use.
macro_rules! scalars_are {
    ($value:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

/// A `T` if the value is an object, else `None`. (A derived struct would also accept an array, by
/// position.)
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            scalars_are!(Object(None));

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Object(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|object| Object(Some(object)))
            }
        }

        input.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The elements if the value is an array, else none.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            scalars_are!(List(Vec::new()));

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    list.push(element);
                }
                Ok(List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(List(Vec::new()))
            }
        }

        input.deserialize_any(ListVisitor(PhantomData))
    }
}

pub(super) fn object<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Object::deserialize(input)?.0)
}

/// A member of any type, read as a scalar.
pub(super) fn scalar<'de, D, T>(
    input: D,
    read: impl FnOnce(Scalar<'_>) -> Option<T>,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(read(Scalar::from(<&RawValue>::deserialize(input)?.get())))
}

pub(super) fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    scalar(input, |value| value.into_text().map(String::from))
}

pub(super) fn number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    scalar(input, |value| value.as_u64())
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(input: D) -> Result<Option<bool>, D::Error> {
    scalar(input, |value| value.as_bool())
}
