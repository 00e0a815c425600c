//! What the nodes of an AuthzStore say, and bringing its store to the model and tiers wanted.

use kube::ResourceExt;

use super::dereference::References;
use super::model::{Central, ConvergeError, StoreState};
use super::validate::{Refusal, Validated, WantedModel};
use crate::api::AuthzStore;
use crate::api::conditions::{ACCEPTED, DATASTORE_REACHABLE, Finding, SUPERSEDED};
use crate::build::{Kind, central_name, grpc_address};
use crate::nodes::{Address, NodeError};
use crate::reconcile::Context;
use crate::reconcile::apply::find;
use crate::reconcile::asked::{Asked, ask};

/// What the nodes say.
pub(super) struct Observed {
    pub(super) nodes: Vec<Asked>,
    pub(super) store: StoreState,
    pub(super) model: Finding,
}

/// Asks the nodes how they are, and brings the store to the model and tiers wanted where that can be done.
pub(super) async fn observe(
    store: &AuthzStore,
    context: &Context,
    references: &References,
    validated: &Validated,
) -> Observed {
    let pods: Vec<_> = references.nodes().cloned().collect();
    let before = store.status.as_ref();
    let mut state = StoreState {
        id: before.and_then(|of| of.store_id.clone()),
        model: before.and_then(|of| of.model.clone()),
        pending: before.and_then(|of| of.pending_model.clone()),
        ..Default::default()
    };
    let nodes = ask(context, &pods, &references.access, state.id.as_deref()).await;
    let model = match &validated.model {
        // Central may have come to run on what is another's.
        _ if let Some(why) = &references.rival => Finding::blocked(ACCEPTED, &why.message),
        // The address of central leads to who has its name.
        Ok(_) if let Some(why) = not_its_own(store, references) => {
            Finding::not_yet("CentralNotReady", why)
        }
        Ok(wanted) => {
            let address = Address {
                at: grpc_address(
                    &central_name(&store.name_any()),
                    &store.namespace().unwrap_or_default(),
                ),
                access: references.access.clone(),
            };
            converge(store, context, &address, &nodes, wanted, &mut state).await
        }
        Err(Refusal::Invalid(finding) | Refusal::Missing(finding)) => Finding {
            message: format!("the model is left as it is: {}", finding.message),
            ..finding.clone()
        },
    };
    Observed {
        nodes,
        store: state,
        model,
    }
}

/// Why central may be that of a store of this name that was deleted, if so.
fn not_its_own(store: &AuthzStore, references: &References) -> Option<String> {
    let central = central_name(&store.name_any());
    if find(&references.live, Kind::Deployment, &central).is_none() {
        return Some(format!("Deployment '{central}' is not there yet"));
    }
    let pod = references.of_before.as_ref()?;
    Some(format!(
        "pod {pod} of a store of this name that was deleted still ends"
    ))
}

async fn converge(
    store: &AuthzStore,
    context: &Context,
    address: &Address,
    nodes: &[Asked],
    wanted: &WantedModel,
    state: &mut StoreState,
) -> Finding {
    let ready = nodes.iter().find_map(|of| {
        let status = of.status.as_ref().ok()?;
        (of.region.is_none() && status.ready).then_some(status)
    });
    if let Some(node) = nodes
        .iter()
        .find(|of| of.region.is_none() && is_cut_off(of))
    {
        return cut_off(&node.pod);
    }
    let Some(status) = ready else {
        return Finding::unknown("CentralNotReady", "no central node is ready to be asked");
    };
    let central = Central {
        store,
        context,
        address,
        status,
    };
    match central.converge(&store.spec.product, wanted, state).await {
        Ok(()) => active(store, nodes, state),
        Err(ConvergeError::Node(NodeError::Unavailable(why))) => {
            Finding::not_yet("CentralUnavailable", why)
        }
        Err(ConvergeError::Node(NodeError::Refused(why))) => Finding::fault("Refused", why),
        Err(lost @ ConvergeError::Lost(_)) => Finding::fault("StoreLost", lost.to_string()),
        Err(ConvergeError::NotSaid(why)) => Finding::unknown("NotWritten", why.to_string()),
    }
}

/// Whether every region has the model.
fn active(store: &AuthzStore, nodes: &[Asked], state: &StoreState) -> Finding {
    let (Some(id), Some(model)) = (&state.id, &state.model) else {
        return Finding::unknown("NotWritten", "the model is not written yet");
    };
    let model = &model.id;
    if let Some(other) = &state.superseded_by {
        return Finding::fault(
            SUPERSEDED,
            format!(
                "model {other}, written by somebody else, came after {model}: change spec.model to write one again"
            ),
        );
    }
    if state.written {
        return Finding::not_yet("Replicating", format!("model {model} was written"));
    }
    for region in &store.spec.regions {
        let is_of = |of: &&Asked| of.region.as_ref() == Some(&region.name);
        if !nodes.iter().any(|of| is_of(&of)) {
            let told = format!("region {} has no running node", region.name);
            return Finding::not_yet("Replicating", told);
        }
        for node in nodes.iter().filter(is_of) {
            let Asked { pod, status, .. } = node;
            match status {
                _ if is_cut_off(node) => return cut_off(pod),
                Ok(status) if status.model(id) == Some(model) => {}
                Ok(_) => {
                    let told = format!("{pod} does not have model {model} yet");
                    return Finding::not_yet("Replicating", told);
                }
                Err(_) => {
                    return Finding::unknown("NodeSilent", format!("{pod} does not answer"));
                }
            }
        }
    }
    Finding::yes("Active", format!("model {model} is active"))
}

/// Without its database a node cannot say which models it has.
fn is_cut_off(node: &Asked) -> bool {
    node.dependency("datastore").is_some_and(|of| !of.available)
}

fn cut_off(pod: &str) -> Finding {
    Finding::blocked(
        DATASTORE_REACHABLE,
        &format!("{pod} does not reach its database"),
    )
}
