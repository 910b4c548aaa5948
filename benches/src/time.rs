//! Time, by criterion: what it estimates for each case, and the ratios.

use std::{env, fs, time::Duration};

use criterion::Criterion;

use crate::{
    Result,
    cases::{self, CASES},
};

const GROUPS: [(&str, &str); 5] = [
    (cases::DELIVERY, "by hand"),
    (cases::SIGNED, "ours"),
    (cases::DECODE_2, "IgnoredAny"),
    (cases::DECODE_5, "IgnoredAny"),
    (cases::DECODE_60, "IgnoredAny"),
];

pub fn report() -> Result<()> {
    let directory = env::temp_dir().join(format!("benches-{}", std::process::id()));
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(50)
        .output_directory(&directory);
    println!("## Time\n");
    println!("The median, and in brackets its confidence interval of 95 %.\n");
    for (group, reference) in GROUPS {
        let mut medians = Vec::new();
        for case in CASES.iter().filter(|case| case.group == group) {
            // Criterion's own words go to standard output, where the tables are.
            let id = format!("{}", medians.len());
            criterion.bench_function(&id, |bencher| bencher.iter_custom(case.run));
            let estimates = fs::read(directory.join(&id).join("new/estimates.json"))?;
            let estimates: serde_json::Value = serde_json::from_slice(&estimates)?;
            let median = |at: &str| estimates.pointer(at).and_then(serde_json::Value::as_f64);
            let (Some(point), Some(low), Some(high)) = (
                median("/median/point_estimate"),
                median("/median/confidence_interval/lower_bound"),
                median("/median/confidence_interval/upper_bound"),
            ) else {
                return Err("criterion's estimates look different".into());
            };
            medians.push((case.name, point, low, high));
            fs::remove_dir_all(directory.join(&id))?;
        }
        let (_, base, ..) = medians[0];
        let reference = medians.iter().find(|(name, ..)| *name == reference);
        let reference = reference.ok_or("a reference")?.1 - base;
        println!("\n| {group} | µs | × reference |\n|---|--:|--:|");
        for (name, point, low, high) in &medians[1..] {
            let net = |nanoseconds: f64| (nanoseconds - base) / 1_000.0;
            println!(
                "| {name} | {:.2} [{:.2}, {:.2}] | {:.2} |",
                net(*point),
                net(*low),
                net(*high),
                (point - base) / reference,
            );
        }
    }
    println!();
    fs::remove_dir_all(&directory)?;
    Ok(())
}
