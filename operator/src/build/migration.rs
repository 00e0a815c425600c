//! The Job that brings a database to the schema of the image.
//!
//! Its name holds a hash of all it depends on. So a change of the image, of the URL or of where it runs makes another
//! Job, a Job that succeeded says for good that this image may run on this database, and none is ever changed. It has no
//! deadline: how long a migration takes depends on how much is stored, and one that is killed begins anew.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::pod::{self, Placement};
use super::{Image, Kind, Labels, Object, StoreInput, named, secrets_hash};
use crate::api::common::KeyRef;

/// How often a failed pod is tried again before the Job counts as failed.
const RETRIES: i32 = 3;

pub(super) struct Migration<'a> {
    pub(super) input: &'a StoreInput,
    /// Central, or a region's name.
    pub(super) target: &'a str,
    pub(super) labels: Labels,
    pub(super) image: &'a Image,
    pub(super) account: &'a str,
    pub(super) url: &'a KeyRef,
    pub(super) placement: Placement<'a>,
}

pub(super) fn job(of: Migration<'_>) -> Object {
    let mut spec = pod::base(of.image, of.account, of.placement);
    spec.restart_policy = Some("Never".to_owned());
    spec.containers = vec![Container {
        command: Some(vec!["meridian".to_owned(), "migrate".to_owned()]),
        env: Some(vec![pod::url_variable(of.url)]),
        ..pod::base_container("migrate", of.image, of.placement.resources)
    }];
    let job = JobSpec {
        backoff_limit: Some(RETRIES),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(of.labels.0.clone()),
                ..Default::default()
            }),
            spec: Some(spec),
        },
        ..Default::default()
    };
    let url = secrets_hash(&of.input.secrets, std::iter::once(of.url));
    let written = serde_json::to_string(&job).unwrap_or_default();
    let name = format!("{}-migrate-{}", of.input.name, of.target);
    let name = named(&name, &format!("{written}\n{url}"));
    Object::new(
        Kind::Job,
        &Job {
            metadata: of.input.meta(name, of.labels),
            spec: Some(job),
            ..Default::default()
        },
    )
}
