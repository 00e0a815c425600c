//! Who may do what in a cluster, and how they show who they are.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

/// Somebody known to the API server by a token.
#[derive(Clone, Debug)]
pub(super) struct User {
    name: String,
    group: &'static str,
    token: String,
}

impl User {
    /// A user with a token of their own.
    pub(super) fn new(name: impl Into<String>, group: &'static str) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            group,
            token: random_token()?,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Their line in the API server's token file.
    pub(super) fn line(&self) -> String {
        let Self { name, group, token } = self;
        format!("{token},{name},{name},\"{group}\"\n")
    }

    /// The settings by which clients reach `server` as this user.
    pub(super) fn kubeconfig(&self, server: &str, authority: &str) -> String {
        let Self { name, token, .. } = self;
        format!(
            "apiVersion: v1
kind: Config
clusters:
- name: meridian
  cluster: {{server: \"{server}\", certificate-authority: \"{authority}\"}}
users:
- name: \"{name}\"
  user: {{token: {token}}}
contexts:
- name: meridian
  context: {{cluster: meridian, user: \"{name}\"}}
current-context: meridian
"
        )
    }
}

/// Not to be guessed by others on the machine, whom the API server would make its master.
fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    let mut token = String::new();
    for byte in bytes {
        write!(token, "{byte:02x}")?;
    }
    Ok(token)
}
