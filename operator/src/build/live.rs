//! The live channel by itself: pods of a region that serve nothing else.

use super::{
    Image, LIVE, Labels, Object, Role, StoreInput, api_certificate, config, live_name, named, pod,
    rolling, secrets_hash, service, store_files, workload,
};
use crate::api::observing::Endpoint;
use crate::api::store::Region;

/// All objects of a region's. They know what an edge knows, and like an edge fetch it from the nodes above.
pub(super) fn endpoint(
    input: &StoreInput,
    endpoint: &Endpoint,
    region: &Region,
    image: &Image,
    account: &str,
) -> Vec<Object> {
    let (spec, name) = (&input.spec, live_name(&input.name, &region.name));
    let labels = Labels::new(&input.name, &input.name)
        .component(LIVE)
        .region(&region.name);
    let meta = |name: &str| input.meta(name.to_owned(), labels.clone());
    let config = config::live_endpoint(&input.name, &input.namespace, spec, region);
    let config_map = named(&name, &config);
    let files = store_files(spec, Role::Live);
    let template = pod::template(pod::Pod {
        role: Role::Live,
        labels: labels.clone(),
        image,
        account,
        config_map: &config_map,
        secrets: secrets_hash(&input.secrets, rolling(&files)),
        datastore: None,
        files: &files,
        traces: spec.traces.as_ref(),
        speaks_tls: api_certificate(spec).is_some(),
        placement: pod::Placement {
            resources: endpoint.resources.as_ref(),
            node_selector: &endpoint.node_selector,
            tolerations: &endpoint.tolerations,
        },
        scratch: true,
    });
    let replicas = endpoint.replicas;
    let workload = workload::deployment(meta(&name), &labels, replicas, template);
    let mut objects = vec![
        config::config_map(meta(&config_map), config),
        service::live(meta(&name), &labels, spec, endpoint.service_type),
        workload.needs(files.iter().map(|file| &file.of)),
    ];
    if replicas > 1 {
        objects.push(workload::disruption_budget(meta(&name), &labels));
    }
    objects
}
