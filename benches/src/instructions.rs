//! Instruction and allocation counts: the tables, and the comparison with the committed ones.

use std::{collections::BTreeMap, fmt::Write, fs, process::Command, thread};

use crate::{
    Result,
    bounds::Bounds,
    cases::{self, CASES, Case},
    valgrind::{self, Tool},
};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.csv");

/// How much slower than the table is too slow, as a factor.
const TOLERANCE: f64 = 1.05;

/// Counts by group and name, what the loop itself costs taken off.
struct Counts(BTreeMap<(String, String), f64>);

impl Counts {
    /// Counts all cases, as many at once as there are cores.
    fn of(tool: Tool, wanted: impl Fn(&Case) -> bool) -> Result<Self> {
        let wanted: Vec<&Case> = CASES.iter().filter(|case| wanted(case)).collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> std::io::Result<Vec<(usize, f64)>> {
            let mut counts = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(case) = wanted.get(index) else { return Ok(counts) };
                counts.push((index, valgrind::per_time(case, tool)?));
            }
        };
        let cores = thread::available_parallelism()?.get();
        let counts: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut gross = vec![0.0; wanted.len()];
        for counts in counts {
            for (index, count) in counts? {
                gross[index] = count;
            }
        }
        let mut net = BTreeMap::new();
        let mut base = 0.0;
        for (index, case) in wanted.iter().enumerate() {
            if index == 0 || wanted[index - 1].group != case.group {
                base = gross[index];
            } else {
                net.insert((case.group.into(), case.name.into()), gross[index] - base);
            }
        }
        Ok(Self(net))
    }

    fn get(&self, group: &str, name: &str) -> Result<f64> {
        let found = self.0.get(&(group.to_owned(), name.to_owned()));
        Ok(*found.ok_or_else(|| format!("no count for {group}, {name}"))?)
    }

    fn ratio(&self, group: &str, name: &str, to: &str) -> Result<f64> {
        Ok(self.get(group, name)? / self.get(group, to)?)
    }
}

pub fn report(bounds: &mut Bounds) -> Result<()> {
    let instructions = Counts::of(Tool::Callgrind, |_| true)?;
    let allocations = Counts::of(Tool::Dhat, |case| {
        matches!(case.group, cases::PASS_THROUGH | cases::DELIVERY | cases::COMPACT)
    })?;

    println!("## Pass-through\n");
    let (alone, behind) = cases::future_sizes();
    println!("| | instructions more | allocations more | future, bytes |\n|---|--:|--:|--:|");
    for (inner, layered, sizes) in [
        ("inner service", "inner service behind the layer", format!("{alone} → {behind}")),
        ("axum router", "axum router behind the layer", String::new()),
        ("axum router", "axum router with an empty layer within", String::new()),
        ("axum router", "axum router with the layer within", String::new()),
    ] {
        let more = |counts: &Counts| -> Result<f64> {
            let group = cases::PASS_THROUGH;
            Ok(counts.get(group, layered)? - counts.get(group, inner)?)
        };
        println!(
            "| {layered} | {:.0} | {:.0} | {sizes} |",
            more(&instructions)?,
            more(&allocations)?
        );
    }

    for (title, group) in
        [("A delivery", cases::DELIVERY), ("The same without white space", cases::COMPACT)]
    {
        println!("\n## {title}\n");
        println!("| | instructions | × by hand | × floor | allocations |\n|---|--:|--:|--:|--:|");
        for case in CASES.iter().filter(|case| case.group == group).skip(1) {
            println!(
                "| {} | {:.0} | {:.2} | {:.2} | {:.0} |",
                case.name,
                instructions.get(case.group, case.name)?,
                instructions.ratio(case.group, case.name, "by hand")?,
                instructions.ratio(case.group, case.name, "floor")?,
                allocations.get(case.group, case.name)?,
            );
        }
    }

    println!("\n## A signed delivery\n");
    println!("| | instructions | × ours |\n|---|--:|--:|");
    for case in CASES.iter().filter(|case| case.group == cases::SIGNED).skip(1) {
        println!(
            "| {} | {:.0} | {:.2} |",
            case.name,
            instructions.get(case.group, case.name)?,
            instructions.ratio(case.group, case.name, "ours")?,
        );
    }

    println!("\n## Decode\n");
    println!("| × `IgnoredAny` | 2.5 KB | 5 KB | 60 KB |\n|---|--:|--:|--:|");
    for case in CASES.iter().filter(|case| case.group == cases::DECODE_2).skip(1) {
        let ratio = |group| instructions.ratio(group, case.name, "IgnoredAny");
        println!(
            "| {} | {:.2} | {:.2} | {:.2} |",
            case.name,
            ratio(cases::DECODE_2)?,
            ratio(cases::DECODE_5)?,
            ratio(cases::DECODE_60)?,
        );
    }
    println!("\n## The bounds\n");
    judge(&instructions, bounds)?;
    for inner in INNER {
        let more = more(&allocations, inner)?;
        bounds.expect(&format!("pass-through to {inner}, allocations more"), more, 0.0);
    }
    println!();
    Ok(())
}

/// What the layer is put in front of.
const INNER: [&str; 2] = ["inner service", "axum router"];

/// What a request to `inner` costs more behind the layer.
fn more(counts: &Counts, inner: &str) -> Result<f64> {
    let group = cases::PASS_THROUGH;
    Ok(counts.get(group, &format!("{inner} behind the layer"))? - counts.get(group, inner)?)
}

/// The bounds on instructions.
fn judge(counts: &Counts, bounds: &mut Bounds) -> Result<()> {
    use cases::{DECODE_2, DECODE_60, DELIVERY};

    for inner in INNER {
        let more = more(counts, inner)?;
        bounds.expect(&format!("pass-through to {inner}, instructions more"), more, 100.0);
    }
    for ours in
        ["ours", "ours, as a bare service", "ours, as an axum route", "ours, as an axum layer"]
    {
        let by_hand = counts.ratio(DELIVERY, ours, "by hand")?;
        bounds.expect(&format!("a delivery ({ours}), × by hand"), by_hand, 0.5);
    }
    let compact = counts.ratio(cases::COMPACT, "ours", "by hand")?;
    println!(
        "- a delivery without white space, × by hand: {compact:.2}, for which there is no bound"
    );
    bounds.expect("a delivery, × floor", counts.ratio(DELIVERY, "ours", "floor")?, 1.3);
    for keys in ["ours, memory store, new keys", "ours, memory store, one key"] {
        let by_hand = counts.ratio(DELIVERY, keys, "by hand")?;
        bounds.expect(&format!("a delivery ({keys}), × by hand"), by_hand, 1.0);
    }
    let decode = counts.ratio(DECODE_60, "ours", "IgnoredAny")?;
    bounds.expect("decode at 60 KB, × IgnoredAny", decode, 1.5);
    // Linear: a byte of the long payload costs no more than one of the short.
    let a_byte = |group, promotions| -> Result<f64> {
        let length = crate::payload::with_promotions(promotions).len();
        Ok(counts.get(group, "ours")? / length as f64)
    };
    let growth = a_byte(DECODE_60, 60)? / a_byte(DECODE_2, 0)?;
    bounds.expect("decode, a byte at 60 KB × a byte at 2.5 KB", growth, 1.0);
    Ok(())
}

fn toolchain() -> Result<String> {
    let said = Command::new("rustc").arg("--version").output()?.stdout;
    Ok(String::from_utf8(said)?.trim().to_owned())
}

/// Counts, keeps the bounds, and compares with the table.
///
/// With the table's own toolchain the counts themselves are compared; with another, which compiles
/// the peers differently as well, their ratios to the group's reference.
pub fn check(bounds: &mut Bounds) -> Result<()> {
    let counts = Counts::of(Tool::Callgrind, |_| true)?;
    judge(&counts, bounds)?;
    let table = fs::read_to_string(TABLE)?;
    let mut lines = table.lines();
    let same = lines.next() == Some(&*format!("# {}", toolchain()?));
    let mut before = Counts(BTreeMap::new());
    for line in lines.skip(1) {
        let [group, name, count] = line.split(';').collect::<Vec<_>>()[..] else {
            return Err(format!("instructions.csv: {line}").into());
        };
        before.0.insert((group.into(), name.into()), count.parse()?);
    }
    for (group, name) in before.0.keys().filter(|(_, name)| is_ours(name)) {
        let slower = if same {
            counts.get(group, name)? / before.get(group, name)?
        } else {
            let reference = reference(group);
            counts.ratio(group, name, reference)? / before.ratio(group, name, reference)?
        };
        let of = if same { "instructions" } else { "ratio" };
        bounds.expect(&format!("{group}, {name}, × the {of} in the table"), slower, TOLERANCE);
    }
    Ok(())
}

/// Only what is ours can have been slowed down here.
fn is_ours(name: &str) -> bool {
    name.starts_with("ours") || name.contains(" the layer")
}

fn reference(group: &str) -> &'static str {
    match group {
        cases::PASS_THROUGH => "inner service",
        cases::DELIVERY | cases::COMPACT => "floor",
        cases::SIGNED => "webhook-verify",
        _ => "IgnoredAny",
    }
}

pub fn bless(bounds: &mut Bounds) -> Result<()> {
    let counts = Counts::of(Tool::Callgrind, |_| true)?;
    judge(&counts, bounds)?;
    let mut table = format!("# {}\ngroup;case;instructions\n", toolchain()?);
    for case in CASES {
        if let Ok(count) = counts.get(case.group, case.name) {
            writeln!(table, "{};{};{count:.0}", case.group, case.name)?;
        }
    }
    fs::write(TABLE, table)?;
    Ok(())
}
