//! Time, through criterion.

use std::time::{Duration, Instant};

use criterion::Criterion;
use tower_firstpromoter_benches::cases::{self, CASES, ROUNDS};

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .sample_size(20);
    // The cases of a group take turns: a machine that others use, too, is now fast and now slow.
    for group in cases::groups() {
        for round in 0..ROUNDS {
            for number in group.clone() {
                let mut work = (CASES[number].prepare)();
                criterion.bench_function(&format!("{number} {round}"), |bencher| {
                    bencher.iter_custom(|n| {
                        let start = Instant::now();
                        work(n);
                        start.elapsed()
                    });
                });
            }
        }
    }
}
