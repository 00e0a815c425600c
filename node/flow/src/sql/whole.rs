//! The steps of a flow that is recorded whole: JSON in the flow's own row, in order, so that a decision is one row
//! (decision 0050).

use std::borrow::Cow;

use meridian_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::flow::{FlowId, Recorded, Step, StepStatus};

/// A step. What filters look for stands first, in this order.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    /// A name of [`StepStatus`], or of one that a newer version has.
    status: Cow<'static, str>,
    /// Microseconds after the flow's beginning.
    after: i64,
    duration_micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

/// The steps of `whole` as text; none where it has none.
pub(super) fn text(whole: &Recorded) -> serde_json::Result<Option<String>> {
    let steps = whole.steps.iter().map(|step| Kept {
        name: step.name.clone(),
        error_code: step.error_code.clone(),
        status: step.status.name().into(),
        after: step.at.0.saturating_sub(whole.flow.started_at.0),
        duration_micros: step.duration_micros,
        error_message: step.error_message.clone(),
    });
    let steps: Vec<_> = steps.collect();
    let text = (!steps.is_empty()).then(|| serde_json::to_string(&steps));
    text.transpose()
}

/// The code by which a flow failed: that of its last step which did.
pub(super) fn error_code(whole: &Recorded) -> Option<&str> {
    let mut codes = whole.steps.iter().rev();
    codes.find_map(|step| step.error_code.as_deref())
}

/// The steps of such a text; `None` for one whose status this version does not know.
pub(super) fn steps(
    flow: FlowId,
    began: Timestamp,
    text: &str,
) -> serde_json::Result<Vec<Option<Step>>> {
    let steps: Vec<Kept> = serde_json::from_str(text)?;
    let steps = steps.into_iter().map(|step| {
        Some(Step {
            flow,
            at: Timestamp(began.0.saturating_add(step.after)),
            name: step.name,
            status: StepStatus::of_name(&step.status)?,
            duration_micros: step.duration_micros,
            error_code: step.error_code,
            error_message: step.error_message,
        })
    });
    Ok(steps.collect())
}

/// What a text has in it exactly if a step of it has this name, failed by this code, or both. A quote within a value has a
/// backslash before it, so that no value looks like this.
pub(super) fn part(name: Option<&str>, code: Option<&str>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let fields = [("name", name), ("error_code", code)];
    let fields = fields
        .into_iter()
        .filter_map(|(field, value)| Some(format!("\"{field}\":{}", quoted(value?))));
    fields.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Flow, FlowKind};

    #[test]
    fn steps_are_as_they_were_and_found_by_what_they_are() {
        let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let flow = Flow::begun(store, FlowKind::Decision, Timestamp(17));
        let step = |at: i64, name: &str, code: Option<&str>| Step {
            flow: flow.id,
            at: Timestamp(at),
            name: name.to_owned(),
            status: StepStatus::Failure,
            duration_micros: 3,
            error_code: code.map(str::to_owned),
            error_message: Some("\"name\":\"odd\",\"error_code\":\"odd\"".to_owned()),
        };
        let whole = Recorded {
            steps: vec![
                step(18, "read", None),
                step(20, "a \"b\" \\ ü", Some("late")),
            ],
            flow,
        };
        let kept = text(&whole).unwrap().unwrap();
        let read = steps(whole.flow.id, Timestamp(17), &kept).unwrap();
        assert_eq!(read.into_iter().flatten().collect::<Vec<_>>(), whole.steps);
        assert_eq!(error_code(&whole), Some("late"));
        for (name, code, is_there) in [
            (Some("read"), None, true),
            (Some("a \"b\" \\ ü"), Some("late"), true),
            (None, Some("late"), true),
            (Some("read"), Some("late"), false),
            (Some("rea"), None, false),
            (Some("odd"), None, false),
            (None, Some("odd"), false),
        ] {
            assert_eq!(
                kept.contains(&part(name, code)),
                is_there,
                "{name:?} {code:?}"
            );
        }
        let none = Recorded {
            steps: Vec::new(),
            ..whole
        };
        assert_eq!(text(&none).unwrap(), None);
    }
}
