//! Whether an object that is there already is as it should be.
//!
//! It is if it was last applied from the same object, which [`APPLIED`] says, and still has all that was applied. What
//! others added, defaults among it, makes no difference; what others changed does.

use serde_json::Value;

use crate::build::APPLIED;

/// Whether applying `wanted` would change nothing of `live`.
#[must_use]
pub fn is_same(wanted: &Value, live: &Value) -> bool {
    let pointer = format!("/metadata/annotations/{}", APPLIED.replace('/', "~1"));
    // The elements of a list do not repeat what kind they are.
    let is_said_by_list =
        |key: &str| matches!(key, "apiVersion" | "kind") && live.get(key).is_none();
    let mut parts = wanted.as_object().into_iter().flatten();
    wanted.pointer(&pointer) == live.pointer(&pointer)
        && parts.all(|(key, value)| {
            is_said_by_list(key)
                || live
                    .get(key)
                    .is_some_and(|found| holds(value, found, false))
        })
}

/// Whether `live` has all of `wanted`. `amounts`: leaves are quantities, which the API server writes in its own way.
fn holds(wanted: &Value, live: &Value, amounts: bool) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| {
            let amounts = amounts || matches!(key.as_str(), "requests" | "limits");
            // An empty list or map may be dropped on the way.
            live.get(key)
                .map_or(is_empty(value), |found| holds(value, found, amounts))
        }),
        (Value::Array(wanted), Value::Array(live)) if wanted.iter().all(Value::is_object) => {
            // Others may have added elements in between.
            let mut rest = live.iter();
            wanted
                .iter()
                .all(|element| rest.any(|found| holds(element, found, amounts)))
        }
        (Value::String(wanted), Value::String(live)) if amounts && wanted != live => {
            matches!((quantity(wanted), quantity(live)), (Some(one), Some(other)) if one == other)
        }
        _ => wanted == live,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A quantity in thousandths, rounded up as the API server does; `None` for what is too large or none.
pub(super) fn quantity(text: &str) -> Option<i128> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let billionths = number.checked_mul(billionths(suffix)?)?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let unit = scale.checked_mul(1_000_000)?;
    Some(billionths / unit + i128::from(billionths % unit != 0))
}

/// What a suffix stands for.
fn billionths(suffix: &str) -> Option<i128> {
    const ONE: i128 = 1_000_000_000;
    let decimal = |power: u32| Some(ONE * 1000_i128.pow(power));
    let binary = |power: u32| Some(ONE * 1024_i128.pow(power));
    match suffix {
        "n" => Some(1),
        "u" => Some(1000),
        "m" => Some(1_000_000),
        "" => Some(ONE),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(spec: Value) -> Value {
        json!({"metadata": {"annotations": {APPLIED: "1"}, "uid": "u"}, "spec": spec})
    }

    fn wanted(spec: Value) -> Value {
        json!({"metadata": {"annotations": {APPLIED: "1"}}, "spec": spec})
    }

    #[test]
    fn defaults_and_additions_of_others_make_no_difference() {
        let mut wanted = wanted(json!({"ports": [{"port": 1}, {"port": 2}], "empty": {}}));
        wanted["kind"] = json!("Service");
        let live = live(
            json!({"ports": [{"port": 1, "protocol": "TCP"}, {"port": 9}, {"port": 2}], "type": "x"}),
        );
        assert!(is_same(&wanted, &live));
    }

    #[test]
    fn what_others_changed_or_took_away_does() {
        let wanted = wanted(json!({"replicas": 2, "args": ["a", "b"], "ports": [{"port": 1}]}));
        for other in [
            json!({"replicas": 3, "args": ["a", "b"], "ports": [{"port": 1}]}),
            json!({"replicas": 2, "args": ["a", "b", "c"], "ports": [{"port": 1}]}),
            json!({"replicas": 2, "args": ["a", "b"], "ports": [{"port": 4}]}),
            json!({"replicas": 2, "args": ["a", "b"]}),
        ] {
            assert!(!is_same(&wanted, &live(other.clone())), "{other}");
        }
        let mut applied_before = live(wanted["spec"].clone());
        applied_before["metadata"]["annotations"][APPLIED] = json!("0");
        assert!(!is_same(&wanted, &applied_before));
    }

    #[test]
    fn quantities_are_compared_by_what_they_amount_to() {
        for (one, other, same) in [
            ("1000m", "1", true),
            ("0.5", "500m", true),
            ("1024Mi", "1Gi", true),
            ("1Gi", "1G", false),
            ("1", "2", false),
            ("1.5Gi", "1536Mi", true),
            ("0.0625", "63m", true),
            ("0.0625", "62m", false),
            ("62500u", "63m", true),
            ("1n", "1m", true),
            ("1024Pi", "1Ei", true),
            ("1000P", "1E", true),
            ("1.000000000000000000000000000000", "1", true),
        ] {
            let wanted = wanted(json!({"resources": {"limits": {"cpu": one}}}));
            let live = live(json!({"resources": {"limits": {"cpu": other}}}));
            assert_eq!(is_same(&wanted, &live), same, "{one} {other}");
        }
        let wanted = wanted(json!({"value": "1000m"}));
        assert!(!is_same(&wanted, &live(json!({"value": "1"}))));
    }
}
