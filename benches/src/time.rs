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

/// The cases of a group take turns: a machine that others use, too, is now fast and now slow.
const ROUNDS: usize = 5;

/// Measures all groups into this directory.
pub fn measure(directory: &str) {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .sample_size(20)
        .output_directory(Path::new(directory));
    for (group, _) in GROUPS {
        for round in 0..ROUNDS {
            for (number, case) in cases(group).enumerate() {
                let id = id(group, number, round);
                criterion.bench_function(&id, |bencher| bencher.iter_custom(case.run));
            }
        }
    }
}

fn id(group: &str, number: usize, round: usize) -> String {
    format!("{group} {number} {round}")
}

fn cases(group: &str) -> impl Iterator<Item = &'static Case> + Clone {
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
    println!(
        "Medians of {ROUNDS} rounds in turn, and in brackets the least and the most of them. A ratio is \
         the median of the rounds' ratios."
    );
    for (group, reference) in GROUPS {
        let rounds: Vec<Vec<f64>> =
            (0..ROUNDS).map(|round| net(&directory, group, round)).collect::<Result<_>>()?;
        let names = cases(group).map(|case| case.name).skip(1);
        let found = names.clone().position(|name| name == reference).ok_or("a reference")?;
        println!("\n| {group} | µs | × {reference} |\n|---|--:|--:|");
        for (number, name) in names.enumerate() {
            let times = sorted(rounds.iter().map(|round| round[number] / 1_000.0));
            let ratios = sorted(rounds.iter().map(|round| round[number] / round[found]));
            println!(
                "| {name} | {:.2} [{:.2}, {:.2}] | {:.2} |",
                times[ROUNDS / 2],
                times[0],
                times[ROUNDS - 1],
                ratios[ROUNDS / 2],
            );
        }
    }
    println!();
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// What criterion estimates for each case of a round, in nanoseconds, without what the loop costs.
fn net(directory: &Path, group: &str, round: usize) -> Result<Vec<f64>> {
    let medians = cases(group).enumerate().map(|(number, _)| {
        let estimates = directory.join(id(group, number, round)).join("new/estimates.json");
        let estimates: serde_json::Value = serde_json::from_slice(&fs::read(estimates)?)?;
        let median = estimates["median"]["point_estimate"].as_f64();
        Ok(median.ok_or("criterion's estimates look different")?)
    });
    let medians: Vec<f64> = medians.collect::<Result<_>>()?;
    Ok(medians[1..].iter().map(|median| median - medians[0]).collect())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
