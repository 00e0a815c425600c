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

/// A quantity in billionths; `None` for what is too large or none.
fn quantity(text: &str) -> Option<i128> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = format!("{fraction:0<9}");
    let billionths = whole
        .parse::<i128>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(fraction.get(..9)?.parse().ok()?)?;
    let unit = |base: i128, power: u32| base.checked_pow(power);
    let factor = match suffix {
        "m" => return Some(billionths / 1000),
        "" => 1,
        "k" => unit(1000, 1)?,
        "M" => unit(1000, 2)?,
        "G" => unit(1000, 3)?,
        "T" => unit(1000, 4)?,
        "Ki" => unit(1024, 1)?,
        "Mi" => unit(1024, 2)?,
        "Gi" => unit(1024, 3)?,
        "Ti" => unit(1024, 4)?,
        _ => return None,
    };
    billionths.checked_mul(factor)
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
        ] {
            let wanted = wanted(json!({"resources": {"limits": {"cpu": one}}}));
            let live = live(json!({"resources": {"limits": {"cpu": other}}}));
            assert_eq!(is_same(&wanted, &live), same, "{one} {other}");
        }
        let wanted = wanted(json!({"value": "1000m"}));
        assert!(!is_same(&wanted, &live(json!({"value": "1"}))));
    }
}
