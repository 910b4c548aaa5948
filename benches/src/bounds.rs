//! What must hold, and whether it does.

#[derive(Default)]
pub struct Bounds {
    broken: bool,
}

impl Bounds {
    pub fn at_most(&mut self, claim: &str, value: f64, bound: f64) {
        self.line(&format!("{claim}: {value:.2}, at most {bound}"), value <= bound);
    }

    #[cfg(feature = "stores")]
    pub fn at_least(&mut self, claim: &str, value: f64, bound: f64) {
        self.line(&format!("{claim}: {value:.2}, at least {bound}"), value >= bound);
    }

    fn line(&mut self, line: &str, holds: bool) {
        println!("- {line}: {}", if holds { "holds" } else { "**DOES NOT HOLD**" });
        self.broken |= !holds;
    }

    pub fn hold(&self) -> bool {
        !self.broken
    }
}

/// Of rounds in which those that are compared took turns, so that noise meets all of them.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
