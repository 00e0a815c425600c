//! What was measured, as a table.

use std::time::Duration;

use crate::load::Timing;

/// What was measured of one kind of call, round by round.
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// Calls a second.
    pub rates: Vec<f64>,
    /// Microseconds at the 50th, 95th and 99th percentile.
    pub percentiles: [Vec<f64>; 3],
    /// Microseconds of the measured process's processor time for each call, where that was measured.
    pub processor: Vec<f64>,
}

const PERCENTILES: [f64; 3] = [0.5, 0.95, 0.99];

impl Row {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            rates: Vec::new(),
            percentiles: Default::default(),
            processor: Vec::new(),
        }
    }

    /// Adds a round of `calls` calls, and the processor time that the measured process spent on it.
    pub fn add(&mut self, timing: &Timing, calls: usize, processor: Option<Duration>) {
        let calls = calls as f64;
        self.rates.push(calls / timing.took.as_secs_f64());
        for (values, at) in self.percentiles.iter_mut().zip(PERCENTILES) {
            values.push(timing.latencies.value_at_quantile(at) as f64 / 1000.0);
        }
        self.processor
            .extend(processor.map(|time| time.as_secs_f64() * 1e6 / calls));
    }
}

/// Prints the rows.
pub fn table<'a>(rows: impl IntoIterator<Item = &'a Row>) {
    println!(
        "{:<34}{:>12}{:>12}{:>12}{:>12}{:>16}",
        "", "rate /s", "p50 us", "p95 us", "p99 us", "server CPU us"
    );
    for row in rows {
        let [p50, p95, p99] = &row.percentiles;
        let processor = median(&row.processor).map_or_else(|| "-".into(), |us| format!("{us:.2}"));
        println!(
            "{:<34}{:>12.0}{:>12.2}{:>12.2}{:>12.2}{processor:>16}",
            row.name,
            median(&row.rates).unwrap_or_default(),
            median(p50).unwrap_or_default(),
            median(p95).unwrap_or_default(),
            median(p99).unwrap_or_default(),
        );
    }
}

/// The median over rounds of each round's own ratio: what disturbs a round disturbs both.
#[must_use]
pub fn ratio(one: &[f64], other: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = one
        .iter()
        .zip(other)
        .map(|(one, other)| one / other)
        .collect();
    median(&ratios)
}

/// The median, if there are any.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
