//! What an API server has been asked.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Writes are logged once they are answered, and so are Secrets that are read by name; nothing else is.
pub(super) const POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
  verbs: [get]
  resources: [{group: "", resources: [secrets]}]
- level: None
"#;

/// The API server's log of every write, whether it changed something or was refused; and of every Secret read by name.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// One call, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who: `system:serviceaccount:<namespace>:<name>` for a pod; whom was impersonated, if somebody was.
    pub user: String,
    /// The client's name for itself.
    pub user_agent: String,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`; or `get`.
    pub verb: String,
    /// Such as `pods`; with a subresource `pods/status`.
    pub resource: String,
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// Empty when the server was to choose it.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
}

impl AuditLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file: a line of JSON for each write.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All writes answered so far, in order; whoever counts from a moment on skips those that were there then.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn writes(&self) -> Result<Vec<Call>> {
        let mut calls = self.calls()?;
        calls.retain(|call| call.verb != GET);
        Ok(calls)
    }

    /// All Secrets read by name, likewise.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn secrets_read(&self) -> Result<Vec<Call>> {
        let mut calls = self.calls()?;
        calls.retain(|call| call.verb == GET);
        Ok(calls)
    }

    fn calls(&self) -> Result<Vec<Call>> {
        let text = fs::read_to_string(&self.path)
            .with_context(|| format!("reading {}", self.path.display()))?;
        // A last line without an end is still being written.
        let whole = text.rfind('\n').map_or("", |end| text.split_at(end).0);
        whole.lines().map(parse).collect()
    }
}

const GET: &str = "get";

fn parse(line: &str) -> Result<Call> {
    let event: Event =
        serde_json::from_str(line).with_context(|| format!("reading audit event {line}"))?;
    let object = event.object_ref.unwrap_or_default();
    let mut resource = object.resource;
    if !object.subresource.is_empty() {
        resource = format!("{resource}/{}", object.subresource);
    }
    Ok(Call {
        user: event.impersonated_user.unwrap_or(event.user).username,
        user_agent: event.user_agent,
        verb: event.verb,
        resource,
        namespace: object.namespace,
        name: object.name,
        code: event.response_status.unwrap_or_default().code,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}
