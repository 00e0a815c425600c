//! What is said of pods that do not start, by what the kubelet says of them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use meridian_operator::reconcile::pods::trouble;
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
        json!({"ready": true, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}}),
    ];
    for container in fine {
        assert_eq!(trouble(&[pod(container.clone())]), None, "{container}");
    }
    let mut going = Pod::clone(&pod(
        json!({"state": {"waiting": {"reason": "ImagePullBackOff"}}}),
    ));
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
    ));
    assert_eq!(trouble(&[Arc::new(going)]), None);
}
