//! *Whatever the bytes, faults and order: `200` if and only if it is fulfilled, and fulfilled at most
//! once.*
//!
//! The laws are in `fuzz/laws`, where a fuzzer plays them. Here each is played with random scripts and
//! with every script of its corpus.

use proptest::{collection::vec, prelude::*};

#[path = "../fuzz/laws/decode.rs"]
mod decode;
#[path = "../fuzz/laws/head.rs"]
mod head;
#[path = "../fuzz/laws/journey.rs"]
mod journey;

const DOCUMENTED: &[u8] = include_bytes!("../fuzz/corpus/decode/documented.json");

/// The kept scripts of one law.
fn corpus(law: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/corpus/{law}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("a corpus");
    let read = |file: std::io::Result<std::fs::DirEntry>| std::fs::read(file?.path());
    files.map(|file| read(file).expect("a readable file")).collect()
}

#[test]
fn kept_scripts() {
    for (law, check) in
        [("decode", decode::check as fn(&[u8])), ("head", head::check), ("journey", journey::check)]
    {
        let scripts = corpus(law);
        assert!(scripts.len() > 10, "{law}: {}", scripts.len());
        scripts.iter().for_each(|script| check(script));
    }
}

/// Each of them with one byte changed, one piece missing or one put in, of every kept script.
fn changed(law: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let piece = vec(any::<u8>(), 0..4);
    let position = || any::<prop::sample::Index>();
    (prop::sample::select(corpus(law)), position(), 0..4_usize, piece).prop_map(
        |(mut script, start, length, piece)| {
            let start = start.index(script.len() + 1);
            let end = script.len().min(start + length);
            script.splice(start..end, piece);
            script
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn journeys(script in vec(any::<u8>(), 0..100)) {
        journey::check(&script);
    }

    #[test]
    fn bodies(script in changed("decode")) {
        decode::check(&script);
    }

    #[test]
    fn amounts(text in "-?[0-9]{1,30}(\\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?") {
        decode::check(text.as_bytes());
    }

    #[test]
    fn heads(script in changed("head")) {
        head::check(&script);
    }
}

/// A body that stops anywhere is no fulfilment.
#[test]
fn bodies_cut_off() {
    let whole = DOCUMENTED.trim_ascii_end();
    for length in 0..whole.len() {
        let cut = whole[..length].to_vec();
        assert!(tower_firstpromoter::event::Fulfilment::decode(cut).is_err(), "{length}");
    }
}
