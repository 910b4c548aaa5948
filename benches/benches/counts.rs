//! Instructions by Callgrind and allocations by DHAT, through gungraun.

use gungraun::{Dhat, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use tower_firstpromoter_benches::{
    cases::{CASES, Work},
    peers::REMEMBERED,
};

/// Steady: what happens once has happened, and the memory store is full.
fn prepare(case: usize) -> (Work, u64) {
    let mut work = (CASES[case].prepare)();
    work(if CASES[case].group.starts_with("decode") { 10 } else { REMEMBERED + 10 });
    (work, CASES[case].times())
}

#[library_benchmark]
#[benches::case(iter = 0..CASES.len(), setup = prepare)]
fn repeated((mut work, times): (Work, u64)) -> Work {
    work(times);
    work // dropped outside of what is counted
}

library_benchmark_group!(name = counts, benchmarks = repeated);

main!(
    config = LibraryBenchmarkConfig::default().tool(Dhat::with_args(["--num-callers=200"])),
    library_benchmark_groups = counts
);
