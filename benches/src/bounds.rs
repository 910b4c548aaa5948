//! What must hold, and whether it did.

use std::process::ExitCode;

#[derive(Default)]
pub struct Bounds {
    kept: usize,
    broken: Vec<String>,
}

impl Bounds {
    pub fn expect(&mut self, claim: &str, value: f64, at_most: f64) {
        let line = format!("{claim}: {value:.2}, at most {at_most}");
        if value <= at_most {
            self.kept += 1;
            println!("- {line}: holds");
        } else {
            println!("- {line}: **DOES NOT HOLD**");
            self.broken.push(line);
        }
    }

    pub fn conclude(self) -> ExitCode {
        for line in &self.broken {
            eprintln!("broken: {line}");
        }
        if self.kept + self.broken.len() > 0 {
            eprintln!("{} passed, {} failed", self.kept, self.broken.len());
        }
        if self.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
