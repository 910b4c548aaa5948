//! Prints what the harnesses measured as Markdown, and whether the bounds hold. `run` is the command.

#[cfg(feature = "stores")]
mod stores;

use std::{error::Error, fs, path::Path, process::ExitCode};

use serde_json::Value;
use tower_firstpromoter_benches::cases::{self, CASES, DELIVERY, PASS_THROUGH, ROUNDS, SIGNED};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut bounds = Bounds { hold: true };
    let done = match arguments[..] {
        ["counts", results] => read(results, 0).map(|costs| judge(&costs, &mut bounds)),
        ["all", results] => read(results, ROUNDS).map(|costs| {
            print(&costs);
            judge(&costs, &mut bounds);
        }),
        #[cfg(feature = "stores")]
        ["stores"] => stores::report(&mut bounds),
        _ => Err("counts RESULTS | all RESULTS | stores".into()),
    };
    if let Err(error) = &done {
        eprintln!("{error}");
    }
    if done.is_ok() && bounds.hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What must hold, and whether it does.
struct Bounds {
    hold: bool,
}

impl Bounds {
    fn check(&mut self, claim: &str, holds: bool) {
        println!("- {claim}: {}", if holds { "holds" } else { "**DOES NOT HOLD**" });
        self.hold &= holds;
    }
}

/// Measured in rounds in which the compared cases took turns, so that noise affects all of them.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a case costs each time.
struct Cost {
    instructions: f64,
    allocations: f64,
    /// In microseconds, of each round.
    times: Vec<f64>,
}

/// The costs of all cases, less what the loop itself costs.
fn read(results: &str, rounds: usize) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for group in cases::groups() {
        let of_loop = cost(results, group.start, rounds)?;
        for number in group {
            let mut cost = cost(results, number, rounds)?;
            cost.instructions -= of_loop.instructions;
            cost.allocations -= of_loop.allocations;
            for (time, of_loop) in cost.times.iter_mut().zip(&of_loop.times) {
                *time -= of_loop;
            }
            costs.push(cost);
        }
    }
    Ok(costs)
}

fn cost(results: &str, number: usize, rounds: usize) -> Result<Cost> {
    let read = |path: &str| -> Result<Value> {
        let text = fs::read(Path::new(results).join(path)).map_err(|e| format!("{path}: {e}"))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let package = env!("CARGO_PKG_NAME");
    let summary =
        read(&format!("gungraun/{package}/counts/counts/repeated.case_{number}/summary.json"))?;
    let count = |tool: usize, metric: &str| {
        let metrics = &summary["profiles"][tool]["data"]["total"]["metrics"];
        let count = metrics[metric]["values"]["new"].as_f64().ok_or("no count")?;
        Ok::<_, &str>(count / CASES[number].times() as f64)
    };
    let time = |round: usize| {
        let estimates = read(&format!("criterion/{number} {round}/new/estimates.json"))?;
        let time = estimates["median"]["point_estimate"].as_f64().ok_or("no estimate")?;
        Ok(time / 1_000.0)
    };
    Ok(Cost {
        instructions: count(0, "Ir")?,
        allocations: count(1, "TotalBlocks")?,
        times: (0..rounds).map(time).collect::<Result<_>>()?,
    })
}

/// A table for each group, whose second case is the one that the others stand beside.
fn print(costs: &[Cost]) {
    for group in cases::groups() {
        let reference = group.start + 1;
        println!("## {}\n", CASES[reference].group);
        println!("| | instructions | × | allocations | µs | × |\n|---|--:|--:|--:|--:|--:|");
        for number in reference..group.end {
            let (name, Cost { instructions, allocations, times }) =
                (CASES[number].name, &costs[number]);
            let [less, faster] = ratios(&costs[number], &costs[reference]);
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            let most = times.iter().copied().fold(0.0, f64::max);
            let time = median(times.iter().copied());
            println!(
                "| {name} | {instructions:.0} | {less:.2} | {allocations:.0} | \
                 {time:.2} [{least:.2}, {most:.2}] | {faster:.2} |"
            );
        }
        println!();
    }
}

/// Of the instructions, and the median of the rounds' ratios of the times.
fn ratios(this: &Cost, that: &Cost) -> [f64; 2] {
    let times = this.times.iter().zip(&that.times).map(|(this, that)| this / that);
    [this.instructions / that.instructions, median(times)]
}

fn judge(costs: &[Cost], bounds: &mut Bounds) {
    let find = |group: &str, name: &str| {
        let found = CASES.iter().position(|case| case.group == group && case.name == name);
        &costs[found.expect("a case")]
    };
    println!("## Bounds\n");
    for inner in ["async fn", "axum router"] {
        let behind = &format!("{inner} behind the layer");
        let (alone, layered) = (find(PASS_THROUGH, inner), find(PASS_THROUGH, behind));
        let more = layered.instructions - alone.instructions;
        let allocations = layered.allocations - alone.allocations;
        let claim = format!(
            "{behind}: {more:.0} instructions more, at most 100; {allocations} allocations, at most 0"
        );
        bounds.check(&claim, more <= 100.0 && allocations <= 0.0);
    }
    for (group, name, reference, at_most) in [
        (DELIVERY, "ours, new", "by hand", 0.9),
        (DELIVERY, "ours, duplicate", "by hand", 0.9),
        (DELIVERY, "ours, new, as an axum route", "by hand", 1.0),
        (DELIVERY, "ours, new, as an axum layer", "by hand", 1.0),
        (SIGNED, "ours", "webhook-verify", 1.0),
        (SIGNED, "ours", "tower-github-webhook", 1.0),
    ] {
        let [instructions, time] = ratios(find(group, name), find(group, reference));
        let timed = if time.is_nan() { String::new() } else { format!(", {time:.2} in time") };
        let claim =
            format!("{group}, {name}, × {reference}: {instructions:.2}{timed}, at most {at_most}");
        bounds.check(&claim, instructions <= at_most && (time.is_nan() || time <= at_most));
    }
    println!();
}
