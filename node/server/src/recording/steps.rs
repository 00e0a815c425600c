//! The steps of a flow that is over, in the order of their ends.

use std::time::Duration;

use meridian_flow::{Flow, FlowId, Step, StepStatus};
use meridian_model::Timestamp;

use super::micros;

pub(crate) struct Steps {
    flow: FlowId,
    began: Timestamp,
    steps: Vec<Step>,
}

impl Steps {
    pub(crate) fn of(flow: &Flow) -> Self {
        Self {
            flow: flow.id,
            began: flow.started_at,
            steps: Vec::with_capacity(6),
        }
    }

    /// A step that was over so long after the flow's beginning.
    pub(crate) fn add(&mut self, name: &str, end: Duration, took: Duration) {
        let at = Timestamp(self.began.0.saturating_add_unsigned(micros(end)));
        let after = self.steps.last().map(|step| step.at.0 + 1);
        self.steps.push(Step {
            flow: self.flow,
            at: Timestamp(after.map_or(at.0, |after| at.0.max(after))),
            name: name.to_owned(),
            status: StepStatus::Success,
            duration_micros: micros(took),
            error_code: None,
            error_message: None,
        });
    }

    pub(crate) fn skip(&mut self, name: &str) {
        self.add(name, Duration::ZERO, Duration::ZERO);
        if let Some(step) = self.steps.last_mut() {
            step.status = StepStatus::Skipped;
        }
    }

    pub(crate) fn has_decided(&self) -> bool {
        let decides = |step: &Step| matches!(&*step.name, "evaluate" | "upstream");
        self.steps.iter().any(decides)
    }

    /// The flow ended at its last step; one whose fields are wrong at the step that looks at them.
    pub(crate) fn fail(&mut self, code: &str, message: &str) {
        if self.steps.is_empty() {
            self.add("evaluate", Duration::ZERO, Duration::ZERO);
        }
        if let Some(step) = self.steps.last_mut() {
            step.status = StepStatus::Failure;
            step.error_code = Some(code.to_owned());
            step.error_message = Some(message.to_owned());
        }
    }

    pub(crate) fn into_all(self) -> Vec<Step> {
        self.steps
    }
}
