//! Finds the few members that are needed, and passes over the rest.
//!
//! `serde_json` decodes what is found. It could pass over the rest as well; this takes two fifths fewer
//! instructions for the usual delivery, and about a quarter less time (`ours` and `needed fields` in
//! `benches/RESULTS.md`). Whatever this lets through is JSON; debug builds, and so all tests, ask
//! `serde_json`.

use std::{borrow::Cow, str};

/// Why reading stopped.
#[derive(Debug, PartialEq)]
pub(super) enum Stop {
    NotJson,
    /// A member is there twice.
    Twice,
}

pub(super) struct Scan<'a> {
    rest: &'a [u8],
    /// What closes the arrays and objects within which it passes over values. They are as deep as
    /// the sender likes, so they must not be on the stack.
    open: Vec<u8>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { rest: json, open: Vec::new() }
    }

    /// Reads an object: has `member` read the value of each member, by its name. `None` if it is
    /// another value.
    pub(super) fn object<T: Default>(
        &mut self,
        mut member: impl FnMut(&mut T, &[u8], &mut Self) -> Result<(), Stop>,
    ) -> Result<Option<T>, Stop> {
        let [b'{', behind @ ..] = space(self.rest) else {
            self.skip()?;
            return Ok(None);
        };
        let mut object = T::default();
        if let [b'}', behind @ ..] = space(behind) {
            self.rest = behind;
            return Ok(Some(object));
        }
        self.rest = behind;
        loop {
            let (said, behind) = read_name(space(self.rest)).ok_or(Stop::NotJson)?;
            self.rest = behind;
            member(&mut object, &said, self)?;
            match space(self.rest) {
                [b',', behind @ ..] => self.rest = behind,
                [b'}', behind @ ..] => {
                    self.rest = behind;
                    return Ok(Some(object));
                }
                _ => return Err(Stop::NotJson),
            }
        }
    }

    /// Reads a value's text into its place.
    pub(super) fn text(&mut self, place: &mut Option<&'a str>) -> Result<(), Stop> {
        let text = space(self.rest);
        self.skip()?;
        let text = &text[..text.len() - self.rest.len()];
        once(place, str::from_utf8(text).map_err(|_| Stop::NotJson)?)
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self) -> Result<(), Stop> {
        self.rest = value(self.rest, &mut self.open).ok_or(Stop::NotJson)?;
        Ok(())
    }

    /// Nothing may come behind the value.
    pub(super) fn end(&self) -> Result<(), Stop> {
        if space(self.rest).is_empty() { Ok(()) } else { Err(Stop::NotJson) }
    }
}

/// Puts a member into its place, which must be free.
pub(super) fn once<T>(place: &mut Option<T>, member: T) -> Result<(), Stop> {
    match place.replace(member) {
        None => Ok(()),
        Some(_) => Err(Stop::Twice),
    }
}

// Each of these takes a text and returns what stands behind the thing that it is named for, which
// must come first.

fn value<'a>(mut rest: &'a [u8], open: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match space(rest) {
            [b'"', behind @ ..] => string(behind)?,
            [b'{', behind @ ..] => match space(behind) {
                [b'}', behind @ ..] => behind,
                members => {
                    open.push(b'}');
                    rest = name(members)?;
                    continue;
                }
            },
            [b'[', behind @ ..] => match space(behind) {
                [b']', behind @ ..] => behind,
                elements => {
                    open.push(b']');
                    rest = elements;
                    continue;
                }
            },
            [b't', b'r', b'u', b'e', behind @ ..]
            | [b'f', b'a', b'l', b's', b'e', behind @ ..]
            | [b'n', b'u', b'l', b'l', behind @ ..] => behind,
            [b'-', behind @ ..] => number(behind)?,
            first => number(first)?,
        };
        // A value has ended, and with it those whose last one it was.
        loop {
            let Some(&close) = open.last() else { return Some(rest) };
            match space(rest) {
                [b',', behind @ ..] if close == b'}' => {
                    rest = name(space(behind))?;
                    break;
                }
                [b',', behind @ ..] => {
                    rest = behind;
                    break;
                }
                [byte, behind @ ..] if *byte == close => {
                    open.pop();
                    rest = behind;
                }
                _ => return None,
            }
        }
    }
}

/// A member's name, and the colon.
#[inline]
fn name(rest: &[u8]) -> Option<&[u8]> {
    let [b'"', behind @ ..] = rest else { return None };
    let [b':', behind @ ..] = space(string(behind)?) else { return None };
    Some(behind)
}

#[inline]
fn space(mut rest: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\r' | b'\t', behind @ ..] = rest {
        // Indentation comes in long runs.
        let spaces = behind
            .first_chunk()
            .map_or(0, |&eight| first(u64::from_le_bytes(eight) ^ (ONES * u64::from(b' '))));
        rest = &behind[spaces..];
    }
    rest
}

/// A string's rest and its closing quote.
#[inline(always)] // a call for each would be a tenth of the work
fn string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match plain::<false>(rest) {
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', behind @ ..] => escape(behind)?,
            [..b' ', ..] | [] => return None,
            [_, behind @ ..] => behind,
        }
    }
}

/// Passes over the bytes that stand for themselves in a string, up to one that does not, or to the
/// text's last seven. In names only ASCII does, since what is read there must be UTF-8.
#[inline(always)]
fn plain<const NAME: bool>(mut rest: &[u8]) -> &[u8] {
    while let Some(&eight) = rest.first_chunk() {
        let eight = u64::from_le_bytes(eight);
        let special = if NAME { special(eight) | eight } else { special(eight) & !eight };
        let plain = first(special & HIGH);
        rest = &rest[plain..];
        if plain < 8 {
            break;
        }
    }
    rest
}

// Strings and indentation are most of a delivery, so they are read by eight bytes at once, the first
// in the lowest place.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Which of the bytes is the first that is not zero; eight if all are.
#[inline]
fn first(bytes: u64) -> usize {
    bytes.trailing_zeros() as usize / 8
}

/// Has the highest bit of each byte set that is special in a string: a quote, a backslash, a control
/// character; and perhaps of bytes that are not ASCII, and behind the first that is special, since
/// each subtraction borrows from the next byte.
#[inline]
fn special(bytes: u64) -> u64 {
    let repeated = |byte: u8| ONES * u64::from(byte);
    // With this bit turned over, the quote comes directly behind the control characters.
    let control_or_quote = (bytes ^ repeated(0x02)).wrapping_sub(repeated(0x21));
    let backslash = (bytes ^ repeated(b'\\')).wrapping_sub(ONES);
    control_or_quote | backslash
}

fn escape(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', behind @ ..] => Some(behind),
        [b'u', a, b, c, d, behind @ ..] => {
            [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()).then_some(behind)
        }
        _ => None,
    }
}

/// A number without a sign.
fn number(rest: &[u8]) -> Option<&[u8]> {
    let mut rest = match rest {
        [b'0', behind @ ..] => behind,
        _ => digits(rest)?,
    };
    if let [b'.', behind @ ..] = rest {
        rest = digits(behind)?;
    }
    if let [b'e' | b'E', b'+' | b'-', behind @ ..] | [b'e' | b'E', behind @ ..] = rest {
        rest = digits(behind)?;
    }
    Some(rest)
}

fn digits(mut rest: &[u8]) -> Option<&[u8]> {
    let [b'0'..=b'9', ..] = rest else { return None };
    while let [b'0'..=b'9', behind @ ..] = rest {
        rest = behind;
    }
    Some(rest)
}

/// What a member's name says, and what stands behind its colon.
#[inline]
fn read_name(rest: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let [b'"', text @ ..] = rest else { return None };
    // Nearly always what stands there.
    let (said, behind) = match plain::<true>(text) {
        [b'"', behind @ ..] => (Cow::Borrowed(&text[..text.len() - behind.len() - 1]), behind),
        _ => decoded(rest)?,
    };
    let [b':', behind @ ..] = space(behind) else { return None };
    Some((said, behind))
}

#[cold]
fn decoded(rest: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let behind = string(rest.get(1..)?)?;
    let said = str::from_utf8(&rest[..rest.len() - behind.len()]).ok()?;
    // With half of a surrogate pair in it, it is JSON, and the name of nothing that is needed.
    let said: String = serde_json::from_str(said).unwrap_or_default();
    Some((Cow::Owned(said.into_bytes()), behind))
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    /// Every kind of token, next to every other that may stand there.
    const ALL: &str = r#" {"a":[1,-0,0.5e+1,-10.25E-2,9e9,[],{}, [ ] , { } ,true,false,null,"",
        "plain text of more than eight bytes","\"\\\/\b\f\n\r\t\u00e9\uD83d","é", "12345678"],
        "name of more than eight bytes":{"b":{"c":[[[{"d":"e"}]]]},"é":0,"\u0061":"        "}} "#;

    #[track_caller]
    fn assert_agrees(json: &[u8]) {
        let mut scan = Scan::new(json);
        let ours = scan.skip().and_then(|()| scan.end()).is_ok();
        let theirs = serde_json::from_slice::<IgnoredAny>(json).is_ok();
        assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(json));
    }

    #[test]
    fn what_is_json_is_what_the_parser_takes() {
        assert!(Scan::new(ALL.as_bytes()).skip().is_ok());
        let mut json = ALL.as_bytes().to_vec();
        for at in 0..json.len() {
            assert_agrees(&json[..at]);
            assert_agrees(&json[at..]);
            for byte in 0..=u8::MAX {
                let before = std::mem::replace(&mut json[at], byte);
                assert_agrees(&json);
                json[at] = before;
            }
            for token in ["0", "\"", "\\", ",", ":", "[", "]", "{", "}", "-", ".", "e", "null"] {
                assert_agrees(&[&json[..at], token.as_bytes(), &json[at..]].concat());
            }
        }
    }

    #[test]
    fn names_say_what_their_escapes_say() {
        for (json, expected) in [
            (r#"{"name":0}"#, "name"),
            (r#"{"a name of more than eight bytes" : 0}"#, "a name of more than eight bytes"),
            (r#"{"eight \\":0}"#, "eight \\"),
            (r#"{"n\u0061me":0}"#, "name"),
            (r#"{"Größe":0}"#, "Größe"),
            (r#"{"":0}"#, ""),
            (r#"{"\ud83d":0}"#, ""),
        ] {
            let mut scan = Scan::new(json.as_bytes());
            let found = scan.object(|found: &mut Vec<u8>, name, scan| {
                found.extend_from_slice(name);
                scan.skip()
            });
            assert_eq!(found, Ok(Some(expected.as_bytes().to_vec())), "{json}");
        }
    }
}
