//! Instructions and allocations, counted by valgrind: the same on every run and, for the same
//! binary, on every machine.

use std::{env, io, process::Command};

use crate::cases::Case;

#[derive(Clone, Copy)]
pub enum Tool {
    /// Instructions executed.
    Callgrind,
    /// Blocks allocated.
    Dhat,
}

impl Tool {
    fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::Callgrind => ["--tool=callgrind", "--callgrind-out-file=/dev/null"],
            Self::Dhat => ["--tool=dhat", "--dhat-out-file=/dev/null"],
        }
    }

    /// The total among what the tool says at the end.
    fn total(self, said: &str) -> Option<u64> {
        let (line, field) = match self {
            Self::Callgrind => ("Collected : ", 0),
            Self::Dhat => ("Total: ", 3), // `Total: 1,234 bytes in 56 blocks`
        };
        let (_, rest) = said.split_once(line)?;
        let number = rest.split_whitespace().nth(field)?;
        number.replace(',', "").parse().ok()
    }
}

/// The cost of doing the case's work once: what doing it more often adds, so that whatever happens
/// once is not in it.
pub fn per_time(case: &Case, tool: Tool) -> io::Result<f64> {
    let few = total(case, tool, case.times / 5)?;
    let many = total(case, tool, case.times + case.times / 5)?;
    Ok((many.saturating_sub(few)) as f64 / case.times as f64)
}

fn total(case: &Case, tool: Tool, times: u64) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(tool.arguments())
        .arg(env::current_exe()?)
        .args(["one", case.group, case.name, &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match tool.total(&said) {
        Some(total) if output.status.success() => Ok(total),
        _ => Err(io::Error::other(format!("{}: {}: {said}", case.group, case.name))),
    }
}
