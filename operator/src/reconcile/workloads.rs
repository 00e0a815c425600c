//! How Jobs and workloads are, from what Kubernetes says of them.

use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;

/// How a Job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// It runs, or will.
    Running,
    /// It succeeded.
    Complete,
    /// It failed.
    Failed {
        /// Why, in one word.
        reason: String,
        /// Why, for people.
        message: String,
        /// When.
        at: Timestamp,
    },
}

/// How a Job is.
#[must_use]
pub fn job_state(job: &DynamicObject) -> JobState {
    let holds = |kind: &str| {
        let conditions = job.data.pointer("/status/conditions")?.as_array()?;
        conditions
            .iter()
            .find(|of| text(of, "type") == kind && text(of, "status") == "True")
    };
    if holds("Complete").is_some() {
        return JobState::Complete;
    }
    holds("Failed").map_or(JobState::Running, |failed| JobState::Failed {
        reason: text(failed, "reason").to_owned(),
        message: text(failed, "message").to_owned(),
        at: text(failed, "lastTransitionTime")
            .parse()
            .unwrap_or(Timestamp::UNIX_EPOCH),
    })
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// How many pods a workload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    /// Pods there should be.
    pub wanted: i32,
    /// Pods there are.
    pub present: i32,
    /// Pods of the latest template.
    pub updated: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Whether Kubernetes has seen the latest spec.
    pub observed: bool,
}

impl Replicas {
    /// All pods are of the latest template and ready.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.observed
            && self.updated >= self.wanted
            && self.ready >= self.wanted
            && self.present <= self.wanted
    }

    /// How far it is from having `wanted` pods that are as they should be, for people.
    #[must_use]
    pub fn progress(&self, wanted: i32) -> String {
        let mut told = format!("{} of {wanted} pods are ready", self.ready.min(wanted));
        if !self.observed {
            told.push_str(", Kubernetes has not begun with the latest spec");
        } else if self.updated < wanted {
            told.push_str(&format!(", {} have the latest spec", self.updated));
        }
        if self.present > wanted {
            let more = self.present.saturating_sub(wanted);
            told.push_str(&format!(", {more} more are yet to end"));
        }
        told
    }
}

/// How many pods a Deployment or StatefulSet has.
#[must_use]
pub fn replicas(workload: &DynamicObject) -> Replicas {
    let number = |path: &str| {
        let found = workload.data.pointer(path).and_then(Value::as_i64);
        found.unwrap_or(0)
    };
    let count = |path: &str| i32::try_from(number(path)).unwrap_or(i32::MAX);
    Replicas {
        wanted: count("/spec/replicas"),
        present: count("/status/replicas"),
        updated: count("/status/updatedReplicas"),
        ready: count("/status/readyReplicas"),
        observed: number("/status/observedGeneration")
            >= workload.metadata.generation.unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::Replicas;

    #[test]
    fn progress_says_what_is_waited_for() {
        let settled = Replicas {
            wanted: 2,
            present: 2,
            updated: 2,
            ready: 2,
            observed: true,
        };
        assert_eq!(settled.progress(2), "2 of 2 pods are ready");
        for (at, told) in [
            (
                Replicas {
                    observed: false,
                    ..settled
                },
                "2 of 2 pods are ready, Kubernetes has not begun with the latest spec",
            ),
            (
                Replicas {
                    updated: 1,
                    ..settled
                },
                "2 of 2 pods are ready, 1 have the latest spec",
            ),
            (
                Replicas {
                    present: 4,
                    ready: 4,
                    ..settled
                },
                "2 of 2 pods are ready, 2 more are yet to end",
            ),
        ] {
            assert_eq!(at.progress(2), told);
        }
    }
}
