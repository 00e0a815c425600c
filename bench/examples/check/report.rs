//! How the rows compare. Aims are shown, not asserted.

use meridian_bench::report::{Row, median, ratio, table};

/// Prints the rows (bare call, routed call, Check, evaluator) and what they say.
pub(crate) fn print(rows: &[Row]) {
    table(rows);
    let [bare, routed, check, evaluator] = rows else {
        return;
    };
    println!();
    for empty in [bare, routed] {
        println!(
            "Check against {}: {} of its rate (aim 80 %), {} of its server CPU",
            empty.name,
            percent(ratio(&check.rates, &empty.rates)),
            percent(ratio(&check.processor, &empty.processor)),
        );
    }
    let [p50, ..] = &evaluator.percentiles;
    println!(
        "evaluator: median {:.2} us (aim 2.00)",
        median(p50).unwrap_or_default()
    );
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{:.0} %", ratio * 100.0))
}
