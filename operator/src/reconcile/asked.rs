//! What nodes say of themselves, and of what they need from outside.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Context, pods};
use crate::api::conditions::Finding;
use crate::build::{GRPC_PORT, REGION};
use crate::nodes::{Access, Address, Dependency, NodeError, NodeStatus};

/// Nodes asked at once.
const ASKED_AT_ONCE: usize = 16;

/// A running pod that was asked how it is.
#[derive(Debug)]
pub struct Asked {
    /// Its name.
    pub pod: String,
    /// The region it serves; None for central.
    pub region: Option<String>,
    /// What it said.
    pub status: Result<NodeStatus, NodeError>,
}

impl Asked {
    /// What it says of a dependency, if it answers and has it.
    #[must_use]
    pub fn dependency(&self, name: &str) -> Option<&Dependency> {
        self.status.as_ref().ok()?.dependency(name)
    }
}

/// Asks every pod that runs how it is, and what it has of a store.
pub async fn ask(
    context: &Context,
    pods: &[Arc<Pod>],
    access: &Access,
    store: Option<&str>,
) -> Vec<Asked> {
    let nodes: Vec<_> = pods
        .iter()
        .flat_map(|pod| {
            let region = pod.labels().get(REGION).cloned();
            let addresses = pods::addresses(std::slice::from_ref(pod), GRPC_PORT);
            addresses
                .into_iter()
                .map(move |(name, address)| (region.clone(), name, address))
        })
        .collect();
    futures::stream::iter(nodes)
        .map(|(region, pod, at)| async move {
            let access = access.clone();
            let address = Address { at, access };
            let status = context.nodes.status(&address, store).await;
            Asked {
                pod,
                region,
                status,
            }
        })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await
}

/// Something that nodes need from outside, as conditions speak of it.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// As nodes call it.
    pub name: &'static str,
    /// The reason where a node does not reach it.
    pub unreachable: &'static str,
    /// What is so where all do, for people.
    pub reached: &'static str,
}

/// Whether all nodes that answer reach what they need. `hint` says of a node where to look.
pub fn reached<'a>(
    nodes: impl IntoIterator<Item = &'a Asked>,
    need: Need,
    hint: impl Fn(&Asked) -> String,
) -> Finding {
    let mut said = false;
    for node in nodes {
        let Some(of) = node.dependency(need.name) else {
            continue;
        };
        if !of.available {
            let told = format!("{}: {}{}", node.pod, of.message, hint(node));
            return Finding::fault(need.unreachable, told);
        }
        said = true;
    }
    if said {
        Finding::yes("Reachable", need.reached)
    } else {
        Finding::unknown("NoNodeAnswers", "no node runs that could say")
    }
}

/// The Kafka of both kinds' nodes.
pub const KAFKA: Need = Need {
    name: "kafka",
    unreachable: "KafkaUnreachable",
    reached: "all nodes reach Kafka",
};
