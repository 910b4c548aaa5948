//! Instructions by Callgrind and allocations by DHAT, through gungraun.

use gungraun::{Dhat, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use tower_firstpromoter_benches::{
    cases::{CASES, Work},
    peers::REMEMBERED,
};

/// Steady: what happens once has happened, and the memory store is full.
fn prepare(case: usize) -> Work {
    let mut work = (CASES[case].prepare)();
    let store_is_there = !CASES[case].group.starts_with("decode");
    work(if store_is_there { REMEMBERED + 10 } else { 10 });
    work
}

#[library_benchmark]
#[benches::case(iter = 0..CASES.len(), setup = prepare)]
fn hundred(mut work: Work) -> Work {
    work(100);
    work // dropped outside of what is counted
}

library_benchmark_group!(name = counts, benchmarks = hundred);

main!(
    config = LibraryBenchmarkConfig::default().tool(Dhat::with_args(["--num-callers=200"])),
    library_benchmark_groups = counts
);
