//! `tower-firstpromoter` beside what one would write, or take, instead. README.md tells what is
//! measured and how; `run` is the command.

mod bounds;
mod cases;
mod full;
mod http;
mod instructions;
mod payload;
mod peers;
mod server;
mod stalled;
#[cfg(feature = "stores")]
mod stores;
mod time;
mod valgrind;

use std::{error::Error, process::ExitCode};

use bounds::Bounds;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
run                   everything, as Markdown on standard output
run --check           instruction counts only, compared with instructions.csv
run --bless           instruction counts only, written to instructions.csv
run PART...           these parts: instructions, time, http, stalled, stores";

const PARTS: [&str; 5] = ["instructions", "time", "http", "stalled", "stores"];

fn main() -> ExitCode {
    match run() {
        Ok(bounds) => bounds.conclude(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Bounds> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut bounds = Bounds::default();
    match &*arguments {
        // What the parts run as processes of their own.
        ["one", group, name, times] => {
            let case = cases::find(group, name)?;
            (case.run)(times.parse()?);
        }
        ["serve", which] => server::serve(which)?,
        ["measure", directory] => time::measure(directory),
        ["stall", address, count] => stalled::stall(address, count.parse()?)?,

        ["--check"] => instructions::check(&mut bounds)?,
        ["--bless"] => instructions::bless(&mut bounds)?,
        parts if parts.iter().all(|part| PARTS.contains(part)) => {
            println!("# Results of `benches/run`\n");
            let wanted = |part| parts.is_empty() || parts.contains(&part);
            if wanted("instructions") {
                instructions::report(&mut bounds)?;
            }
            if wanted("time") {
                time::report()?;
            }
            if wanted("http") {
                http::report(&mut bounds)?;
            }
            if wanted("stalled") {
                stalled::report(&mut bounds)?;
            }
            #[cfg(feature = "stores")]
            if wanted("stores") {
                stores::report()?;
            }
        }
        _ => return Err(USAGE.into()),
    }
    Ok(bounds)
}
