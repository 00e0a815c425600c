//! Waiting for Meridian on a cluster, and showing how it comes along.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use meridian_e2e::cluster::{Access, Kubectl, OPERATOR_NAMESPACE};
use serde_json::Value;
use tokio::time::sleep;

use super::up::NAMESPACE;
use crate::stage::Stage;

pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(60);
const READY_DEADLINE: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(500);
/// How many lines of logs and events are shown of what did not come up.
const TAIL: &str = "--tail=15";

/// Waits until every store and edge is Ready; shows each condition that changes.
pub(super) async fn until_ready(stage: &Stage, access: &Access) -> Result<()> {
    let kubectl = access.kubectl()?;
    let start = Instant::now();
    let mut shown = BTreeMap::new();
    loop {
        let kinds = ["--namespace", NAMESPACE, "authzstores,edgeregions"];
        let list = kubectl.get(kinds).await?;
        let objects = list.get("items").and_then(Value::as_array);
        let objects = objects.map(Vec::as_slice).unwrap_or_default();
        for object in objects {
            for (name, now) in conditions(object) {
                if shown.get(&name) != Some(&now) {
                    stage.line(&format!("{name}: {now}"));
                    shown.insert(name, now);
                }
            }
        }
        if !objects.is_empty() && objects.iter().all(is_ready) {
            return Ok(());
        }
        if start.elapsed() > READY_DEADLINE {
            show_why(stage, &kubectl).await;
            bail!("not Ready in {READY_DEADLINE:?}: the conditions above say what is missing");
        }
        sleep(TICK).await;
    }
}

/// `store github Migrated`, and what it says.
fn conditions(object: &Value) -> Vec<(String, String)> {
    let text = |value: &Value, pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let of = format!(
        "{} {}",
        text(object, "/kind"),
        text(object, "/metadata/name")
    );
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .map(|condition| {
            let [kind, status, reason, message] =
                ["/type", "/status", "/reason", "/message"].map(|part| text(condition, part));
            let now = if status == "True" {
                status
            } else {
                format!("{status} ({reason}) {message}")
            };
            (format!("{of} {kind}"), now)
        })
        .collect()
}

/// Whether what is Ready is what is asked for now.
fn is_ready(object: &Value) -> bool {
    let generation = object.pointer("/metadata/generation");
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("Ready")
            && condition.get("status").and_then(Value::as_str) == Some("True")
            && condition.get("observedGeneration") == generation
    })
}

/// Before all is ended: what tells why.
async fn show_why(stage: &Stage, kubectl: &Kubectl) {
    let commands: [&[&str]; 4] = [
        &["get", "pods", "--all-namespaces", "--output=wide"],
        &[
            "get",
            "events",
            "--namespace",
            NAMESPACE,
            "--sort-by=.lastTimestamp",
        ],
        &[
            "logs",
            "--namespace",
            OPERATOR_NAMESPACE,
            "deployment/meridian-operator",
            TAIL,
        ],
        &[
            "logs",
            "--namespace",
            NAMESPACE,
            "--selector=app.kubernetes.io/name=meridian",
            "--prefix",
            TAIL,
        ],
    ];
    for command in commands {
        let said = kubectl.run(command.iter().copied()).await;
        let said = said.unwrap_or_else(|error| format!("{error:#}"));
        said.lines().for_each(|line| stage.line(line));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{conditions, is_ready};

    fn store(status: &str, generation: u32) -> Value {
        json!({
            "kind": "AuthzStore",
            "metadata": {"name": "github", "generation": 2},
            "status": {"conditions": [{
                "type": "Ready", "status": status, "observedGeneration": generation,
                "reason": "MissingSecret", "message": "no Secret github-central",
            }]},
        })
    }

    #[test]
    fn ready_counts_only_for_what_is_asked_for_now() {
        assert!(is_ready(&store("True", 2)));
        assert!(!is_ready(&store("True", 1)));
        assert!(!is_ready(&store("False", 2)));
        assert!(!is_ready(
            &json!({"kind": "AuthzStore", "metadata": {"generation": 1}})
        ));
    }

    #[test]
    fn a_condition_says_why_it_is_not_true() {
        let shown = conditions(&store("False", 2));
        let (name, now) = &shown[0];
        assert_eq!(name, "AuthzStore github Ready");
        assert_eq!(now, "False (MissingSecret) no Secret github-central");
    }
}
