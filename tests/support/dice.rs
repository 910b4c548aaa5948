//! Reproducible random numbers.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// SplitMix64, for any number of threads.
pub(crate) struct Dice(AtomicU64);

impl Dice {
    /// Seeded from the variable `SEED`, or at random. Prints the seed, to run it again; it does not
    /// fix how threads interleave.
    pub(crate) fn new(test: &str) -> Self {
        let seed = match env::var("SEED") {
            Ok(seed) => seed.parse().expect("`SEED` is a number"),
            Err(_) => RandomState::new().hash_one(test) >> 32,
        };
        println!("{test}: SEED={seed}");
        Self(AtomicU64::new(seed))
    }

    /// A number in this range.
    pub(crate) fn roll(&self, range: Range<u64>) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        range.start + z % (range.end - range.start)
    }
}
