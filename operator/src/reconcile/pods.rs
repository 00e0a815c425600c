//! Why pods do not start or do not get ready, from what the kubelet says of them.
//!
//! What is said must not differ from one look to the next while nothing changes: a status that flickers would be
//! written for ever. So the stages of one trouble have one reason, and what counts seconds or tries is left out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

/// What keeps a pod from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Why, in one word, as the kubelet calls it.
    pub reason: String,
    /// Why, for people, with the pod's name.
    pub message: String,
}

const CRASH_LOOP: &str = "CrashLoopBackOff";

/// Longest text of a container's own in a message.
const MAX_LAST_WORDS: usize = 600;

/// The first trouble there is.
#[must_use]
pub fn trouble(pods: &[Arc<Pod>]) -> Option<Trouble> {
    pods.iter().find_map(|pod| of_pod(pod))
}

fn of_pod(pod: &Pod) -> Option<Trouble> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let containers = status.container_statuses.iter().flatten();
    containers
        .filter(|container| !container.ready)
        .find_map(|container| of_container(&name, container))
        .or_else(|| unschedulable(&name, pod))
}

fn of_container(pod: &str, container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.as_ref();
    let waiting = state.and_then(|of| of.waiting.as_ref());
    let reason = waiting.and_then(|of| of.reason.as_deref()).unwrap_or("");
    let said = waiting.and_then(|of| of.message.as_deref()).unwrap_or("");
    let told = |reason: &str, message: String| {
        Some(Trouble {
            reason: reason.to_owned(),
            message: format!("pod {pod}: {message}"),
        })
    };
    match reason {
        "ImagePullBackOff" | "ErrImagePull" | "RegistryUnavailable" => {
            let why = said.rsplit("ErrImagePull: ").next().unwrap_or(said);
            let why = if why.starts_with("Back-off") { "" } else { why };
            let image = &container.image;
            told(
                "ImagePullBackOff",
                join(&format!("image {image} cannot be pulled"), why),
            )
        }
        "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" => told(
            reason,
            join(&format!("image {} cannot be used", container.image), said),
        ),
        "CreateContainerError" | "CreateContainerConfigError" | "RunContainerError" => {
            told(reason, join("the container cannot be created", said))
        }
        // Also while it runs once more, until it gets ready or has run for good.
        _ => crash(container, reason == CRASH_LOOP).and_then(|message| told(CRASH_LOOP, message)),
    }
}

/// That a container ended well is nothing, once; again and again it is as bad as any other end.
fn crash(container: &ContainerStatus, is_held_back: bool) -> Option<String> {
    let is_again = is_held_back || container.restart_count > 1;
    let ended = |state: &Option<ContainerState>| {
        let ended = state.as_ref()?.terminated.clone()?;
        (ended.exit_code != 0 || is_again).then_some(ended)
    };
    let last = ended(&container.state).or_else(|| ended(&container.last_state))?;
    let how = match last.reason.as_deref() {
        Some("OOMKilled") => "the container was killed: it needs more memory than its limit".into(),
        // What cannot be started at all has no exit code of its own.
        Some("StartError" | "ContainerCannotRun") => "the container cannot be started".to_owned(),
        _ => format!("the container ends with exit code {}", last.exit_code),
    };
    let words = last.message.as_deref().map(last_line).unwrap_or_default();
    Some(join(&how, &words))
}

/// The last line of what a container said, cut to a length that fits into a message.
fn last_line(text: &str) -> String {
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    line.unwrap_or_default()
        .chars()
        .take(MAX_LAST_WORDS)
        .collect()
}

fn unschedulable(name: &str, pod: &Pod) -> Option<Trouble> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let placed = conditions.iter().find(|of| of.type_ == "PodScheduled")?;
    let reason = placed.reason.as_deref()?;
    (placed.status == "False" && reason == "Unschedulable").then(|| Trouble {
        reason: reason.to_owned(),
        message: join(
            &format!("pod {name}: no machine takes it"),
            placed.message.as_deref().unwrap_or_default(),
        ),
    })
}

fn join(what: &str, why: &str) -> String {
    if why.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {why}")
    }
}

/// Addresses of pods that run, ready or not, each with its pod's name.
#[must_use]
pub fn addresses(pods: &[Arc<Pod>], port: u16) -> Vec<(String, String)> {
    let running = pods.iter().filter(|pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod
                .status
                .as_ref()
                .is_some_and(|status| status.phase.as_deref() == Some("Running"))
    });
    running
        .filter_map(|pod| {
            let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
            let host = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            Some((pod.name_any(), format!("{host}:{port}")))
        })
        .collect()
}

/// Whether the kubelet says that the pod is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|of| of.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|of| of.type_ == "Ready" && of.status == "True")
}
