//! Reads what the harnesses measured, prints it as Markdown, and says whether the bounds hold. `run` is
//! the command.

mod bounds;
#[cfg(feature = "stores")]
mod stores;

use std::{collections::BTreeMap, error::Error, fs, path::Path, process::ExitCode};

use serde_json::Value;
use tower_firstpromoter_benches::cases::{self, CASES, DELIVERY, PASS_THROUGH, ROUNDS, SIGNED};

use self::bounds::{Bounds, median};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut bounds = Bounds::default();
    let done = match arguments[..] {
        ["counts", results] => Report::read(results, false).and_then(|it| it.judge(&mut bounds)),
        ["all", results] => Report::read(results, true).and_then(|it| {
            it.print();
            it.judge(&mut bounds)
        }),
        #[cfg(feature = "stores")]
        ["stores"] => stores::report(&mut bounds),
        _ => Err("counts RESULTS | all RESULTS | stores".into()),
    };
    match done {
        Ok(()) if bounds.hold() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What a case costs, without what the loop itself costs.
#[derive(Clone, Default)]
struct Cost {
    instructions: f64,
    allocations: f64,
    /// In nanoseconds, of each round.
    times: Vec<f64>,
}

struct Report(BTreeMap<(&'static str, &'static str), Cost>);

impl Report {
    fn read(results: &str, timed: bool) -> Result<Self> {
        let mut costs = BTreeMap::new();
        for group in cases::groups() {
            let loop_itself = cost(results, group.start, timed)?;
            for number in group.skip(1) {
                let mut cost = cost(results, number, timed)?;
                cost.instructions -= loop_itself.instructions;
                cost.allocations -= loop_itself.allocations;
                for (time, of_loop) in cost.times.iter_mut().zip(&loop_itself.times) {
                    *time -= of_loop;
                }
                costs.insert((CASES[number].group, CASES[number].name), cost);
            }
        }
        Ok(Self(costs))
    }

    /// A table for each group, whose second case is the one that the others stand beside.
    fn print(&self) {
        for group in cases::groups() {
            let reference = &CASES[group.start + 1];
            println!("## {}\n", reference.group);
            println!("| | instructions | × | allocations | µs | × |\n|---|--:|--:|--:|--:|--:|");
            for case in &CASES[group].iter().as_slice()[1..] {
                let cost = &self.0[&(case.group, case.name)];
                let [less, more] = self.ratios(case.group, case.name, reference.name);
                let least = cost.times.iter().copied().fold(f64::INFINITY, f64::min);
                let most = cost.times.iter().copied().fold(0.0, f64::max);
                println!(
                    "| {} | {:.0} | {less:.2} | {:.0} | {:.2} [{:.2}, {:.2}] | {more:.2} |",
                    case.name,
                    cost.instructions,
                    cost.allocations,
                    median(cost.times.iter().copied()) / 1_000.0,
                    least / 1_000.0,
                    most / 1_000.0,
                );
            }
            println!();
        }
    }

    /// Of the instructions, and the median of the rounds' ratios of the times.
    fn ratios(&self, group: &'static str, this: &'static str, that: &'static str) -> [f64; 2] {
        let (this, that) = (&self.0[&(group, this)], &self.0[&(group, that)]);
        let times = this.times.iter().zip(&that.times).map(|(this, that)| this / that);
        [this.instructions / that.instructions, median(times)]
    }

    fn judge(&self, bounds: &mut Bounds) -> Result<()> {
        println!("## Bounds\n");
        for inner in ["async fn", "axum router"] {
            let behind = CASES.iter().find(|case| case.name == format!("{inner} behind the layer"));
            let behind = &self.0[&(PASS_THROUGH, behind.ok_or("no such case")?.name)];
            let inner_alone = &self.0[&(PASS_THROUGH, inner)];
            for (what, more, at_most) in [
                ("instructions", behind.instructions - inner_alone.instructions, 100.0),
                ("allocations", behind.allocations - inner_alone.allocations, 0.0),
            ] {
                bounds.at_most(&format!("{inner} behind the layer, {what} more"), more, at_most);
            }
        }
        for (group, name, reference, at_most) in [
            (DELIVERY, "ours, new", "by hand", 0.9),
            (DELIVERY, "ours, duplicate", "by hand", 0.9),
            (DELIVERY, "ours, new, as a bare service", "by hand", 0.9),
            (DELIVERY, "ours, new, as an axum route", "by hand", 1.0),
            (DELIVERY, "ours, new, as an axum layer", "by hand", 1.0),
            (SIGNED, "ours", "webhook-verify", 1.0),
            (SIGNED, "ours", "tower-github-webhook", 1.0),
        ] {
            let [instructions, time] = self.ratios(group, name, reference);
            let claim = |what| format!("{group}, {name}, {what}, × {reference}");
            bounds.at_most(&claim("instructions"), instructions, at_most);
            if !time.is_nan() {
                bounds.at_most(&claim("time"), time, at_most);
            }
        }
        println!();
        Ok(())
    }
}

fn cost(results: &str, number: usize, timed: bool) -> Result<Cost> {
    let results = Path::new(results);
    let read = |path: &str| -> Result<Value> {
        let text = fs::read(results.join(path)).map_err(|error| format!("{path}: {error}"))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let summary = read(&format!(
        "gungraun/{}/counts/counts/hundred.case_{number}/summary.json",
        env!("CARGO_PKG_NAME"),
    ))?;
    let profiles = summary["profiles"].as_array().ok_or("a summary without profiles")?;
    let per_time = |metric: &str| {
        let metrics =
            |profile: &Value| profile["data"]["total"]["metrics"][metric]["values"]["new"].as_f64();
        profiles.iter().find_map(metrics).map(|count| count / 100.0).ok_or(metric.to_owned())
    };
    let mut cost = Cost {
        instructions: per_time("Ir")?,
        allocations: per_time("TotalBlocks")?,
        times: Vec::new(),
    };
    for round in 0..if timed { ROUNDS } else { 0 } {
        let estimates = read(&format!("criterion/{number} {round}/new/estimates.json"))?;
        let time = estimates["median"]["point_estimate"].as_f64();
        cost.times.push(time.ok_or("criterion's estimates look different")?);
    }
    Ok(cost)
}
