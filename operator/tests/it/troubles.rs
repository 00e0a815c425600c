//! What is said of pods that do not start, by what the kubelet says of them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use meridian_operator::reconcile::pods::{addresses, trouble};
use serde_json::{Value, json};

fn pod(container: Value) -> Arc<Pod> {
    let mut status = json!({"name": "node", "image": "registry/x:9", "imageID": "", "ready": false, "restartCount": 0});
    for (key, value) in container.as_object().unwrap() {
        status[key] = value.clone();
    }
    let pod = json!({"metadata": {"name": "p-0"}, "status": {"containerStatuses": [status]}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn told(container: Value) -> (String, String) {
    let trouble = trouble(&[pod(container)]).expect("a trouble");
    (trouble.reason, trouble.message)
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_alike_in_all_its_stages() {
    let why = "rpc error: not found: registry/x:9";
    let stages = [
        json!({"state": {"waiting": {"reason": "ErrImagePull", "message": why}}}),
        json!({"state": {"waiting": {
            "reason": "ImagePullBackOff",
            "message": format!("Back-off pulling image \"registry/x:9\": ErrImagePull: {why}"),
        }}}),
    ];
    for stage in stages {
        let (reason, message) = told(stage);
        assert_eq!(reason, "ImagePullBackOff");
        assert_eq!(
            message,
            format!("pod p-0: image registry/x:9 cannot be pulled: {why}")
        );
    }
}

#[test]
fn a_crash_loop_is_told_alike_while_it_waits_and_while_it_runs_again() {
    let last = json!({"terminated": {"exitCode": 1, "message": "starting\nerror: listen.grpc: address in use\n"}});
    let stages = [
        json!({"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}, "lastState": last}),
        json!({"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}, "lastState": last}),
        json!({"state": {"running": {}}, "lastState": last}),
        json!({"state": last}),
    ];
    for stage in stages {
        let (reason, message) = told(stage);
        assert_eq!(reason, "CrashLoopBackOff");
        assert_eq!(
            message,
            "pod p-0: the container ends with exit code 1: error: listen.grpc: address in use"
        );
    }
}

#[test]
fn a_container_that_ends_well_again_and_again_is_told_alike_in_all_its_stages() {
    let last = json!({"terminated": {"exitCode": 0, "message": "usage: meridian <COMMAND>"}});
    let stages = [
        json!({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}, "lastState": last}),
        json!({"restartCount": 2, "state": {"running": {}}, "lastState": last}),
        json!({"restartCount": 2, "state": last, "lastState": last}),
    ];
    for stage in stages {
        let (reason, message) = told(stage);
        assert_eq!(reason, "CrashLoopBackOff");
        assert_eq!(
            message,
            "pod p-0: the container ends with exit code 0: usage: meridian <COMMAND>"
        );
    }
}

#[test]
fn what_else_keeps_a_container_from_starting_is_told_as_the_kubelet_calls_it() {
    for reason in [
        "CreateContainerError",
        "CreateContainerConfigError",
        "InvalidImageName",
    ] {
        let waiting = json!({"state": {"waiting": {"reason": reason, "message": "because"}}});
        let (found, message) = told(waiting);
        assert_eq!(found, reason);
        assert!(message.ends_with(": because"), "{message}");
    }
    let killed = json!({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    assert!(told(killed).1.contains("more memory"));
}

#[test]
fn a_pod_that_no_machine_takes_is_told() {
    let pod = json!({"metadata": {"name": "p-0"}, "status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available",
    }]}});
    let found = trouble(&[Arc::new(serde_json::from_value(pod).unwrap())]).unwrap();
    assert_eq!(found.reason, "Unschedulable");
    assert!(
        found
            .message
            .ends_with("no machine takes it: 0/1 nodes are available")
    );
}

#[test]
fn a_pod_that_starts_or_goes_is_no_trouble() {
    let fine = [
        json!({"state": {"waiting": {"reason": "ContainerCreating"}}}),
        json!({"state": {"running": {}}}),
        // A migration that is done; a node that was told to end, once.
        json!({"state": {"terminated": {"exitCode": 0}}}),
        json!({"restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 0}}}),
        json!({"ready": true, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}}),
    ];
    for container in fine {
        assert_eq!(trouble(&[pod(container.clone())]), None, "{container}");
    }
    let waiting = pod(json!({"state": {"waiting": {"reason": "ImagePullBackOff"}}}));
    assert_eq!(trouble(&[going(&waiting)]), None);
}

/// The pod once it was deleted and ends.
fn going(pod: &Pod) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    Arc::new(pod)
}

#[test]
fn a_pod_is_asked_while_it_runs_and_not_while_it_ends() {
    let running = json!({
        "metadata": {"name": "p-0"}, "status": {"phase": "Running", "podIP": "10.0.0.1"},
    });
    let running: Arc<Pod> = Arc::new(serde_json::from_value(running).unwrap());
    let found = addresses(&[going(&running), running], 8081);
    assert_eq!(found, [("p-0".to_owned(), "10.0.0.1:8081".to_owned())]);
}
