//! Time, by criterion: what it estimates for each case, and the ratios.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use criterion::Criterion;

use crate::{
    Result,
    cases::{self, CASES, Case},
};

const GROUPS: [(&str, &str); 6] = [
    (cases::DELIVERY, "by hand"),
    (cases::COMPACT, "by hand"),
    (cases::SIGNED, "ours"),
    (cases::DECODE_2, "IgnoredAny"),
    (cases::DECODE_5, "IgnoredAny"),
    (cases::DECODE_60, "IgnoredAny"),
];

/// Measures all groups into this directory.
pub fn measure(directory: &str) {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(50)
        .output_directory(Path::new(directory));
    for (group, _) in GROUPS {
        for (number, case) in cases(group).enumerate() {
            let id = format!("{group} {number}");
            criterion.bench_function(&id, |bencher| bencher.iter_custom(case.run));
        }
    }
}

fn cases(group: &str) -> impl Iterator<Item = &'static Case> {
    CASES.iter().filter(move |case| case.group == group)
}

pub fn report() -> Result<()> {
    let directory = env::temp_dir().join(format!("benches-{}", std::process::id()));
    // In a process of its own, because criterion writes to standard output, where the tables go.
    let measured = Command::new(env::current_exe()?)
        .arg("measure")
        .arg(&directory)
        .stdout(Stdio::null())
        .status()?;
    if !measured.success() {
        return Err("the time could not be measured".into());
    }
    println!("## Time\n");
    println!("The median, and in brackets its confidence interval of 95 %.");
    for (group, reference) in GROUPS {
        let mut medians = Vec::new();
        for (number, case) in cases(group).enumerate() {
            let estimates = directory.join(format!("{group} {number}/new/estimates.json"));
            let estimates: serde_json::Value = serde_json::from_slice(&fs::read(estimates)?)?;
            let median = |at: &str| estimates["median"].pointer(at).and_then(|at| at.as_f64());
            let (Some(point), Some(low), Some(high)) = (
                median("/point_estimate"),
                median("/confidence_interval/lower_bound"),
                median("/confidence_interval/upper_bound"),
            ) else {
                return Err("criterion's estimates look different".into());
            };
            medians.push((case.name, point, low, high));
        }
        let (_, base, ..) = medians[0];
        let found = medians.iter().find(|(name, ..)| *name == reference);
        let found = found.ok_or("a reference")?.1 - base;
        println!("\n| {group} | µs | × {reference} |\n|---|--:|--:|");
        for (name, point, low, high) in &medians[1..] {
            let net = |nanoseconds: f64| (nanoseconds - base) / 1_000.0;
            println!(
                "| {name} | {:.2} [{:.2}, {:.2}] | {:.2} |",
                net(*point),
                net(*low),
                net(*high),
                (point - base) / found,
            );
        }
    }
    println!();
    fs::remove_dir_all(&directory)?;
    Ok(())
}
