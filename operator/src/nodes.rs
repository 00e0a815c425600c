//! What the operator asks of nodes, and who answers it.

mod client;

use std::fmt;

use async_trait::async_trait;
use meridian_model::{AuthorizationModel, Tiers};

pub use client::Client;

/// Where a node's `listen.grpc` is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// `host:port`.
    pub at: String,
    /// How it is spoken to.
    pub access: Access,
}

impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.at)
    }
}

/// How nodes are spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Access {
    /// What is shown to them as the bearer token.
    pub token: Option<Hidden>,
    /// Who they must show to be, where they speak TLS.
    pub identity: Option<Identity>,
}

/// Who nodes that speak TLS must show to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// A name that their certificate is for, whatever the address.
    pub name: String,
    /// The certificates (PEM) that theirs must lead to; the system's where there are none.
    pub ca: Option<String>,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("(not shown)")
    }
}

/// The part of the nodes' API that the operator needs. Every call has a deadline.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// The id of the store of this name, the oldest if there are several.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn find_store(&self, at: &Address, name: &str) -> Result<Option<String>, NodeError>;

    /// Creates a store; returns its id.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn create_store(&self, at: &Address, name: &str) -> Result<String, NodeError>;

    /// The store's latest model, with its id.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn latest_model(
        &self,
        at: &Address,
        store: &str,
    ) -> Result<Option<(String, AuthorizationModel)>, NodeError>;

    /// Writes a model; returns its id.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn write_model(
        &self,
        at: &Address,
        store: &str,
        model: &AuthorizationModel,
    ) -> Result<String, NodeError>;

    /// The tiers in force.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn tiers(&self, at: &Address, store: &str) -> Result<Tiers, NodeError>;

    /// Assigns the tiers of all types.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn assign_tiers(&self, at: &Address, store: &str, tiers: &Tiers)
    -> Result<(), NodeError>;

    /// How the node itself is, and what it has of a store.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn status(&self, at: &Address, store: Option<&str>) -> Result<NodeStatus, NodeError>;

    /// Deletes a store; that it is not there is no error.
    ///
    /// # Errors
    /// As [`NodeError`].
    async fn delete_store(&self, at: &Address, store: &str) -> Result<(), NodeError>;
}

/// Why a node did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It may do it later.
    #[error("{0}")]
    Unavailable(String),
    /// It will not do it, however often it is asked.
    #[error("{0}")]
    Refused(String),
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// Its name: the pod's.
    pub node: String,
    /// Whether it may be asked.
    pub ready: bool,
    /// What it needs from outside.
    pub dependencies: Vec<Dependency>,
    /// The store it was asked about, if it has it.
    pub store: Option<Held>,
}

/// A store that a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: String,
    /// Its latest model there; none while it has none.
    pub model: Option<String>,
}

/// Something a node needs from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// `kafka`, `datastore` or `upstream`.
    pub name: String,
    /// Whether it answers.
    pub available: bool,
    /// Why not, with the address.
    pub message: String,
}

impl NodeStatus {
    /// What it says of a dependency, if it has it; of the nodes above, of the one it asks first.
    #[must_use]
    pub fn dependency(&self, name: &str) -> Option<&Dependency> {
        self.dependencies.iter().find(|of| of.name == name)
    }

    /// Whether it has a store; asked about another, it is not known to.
    #[must_use]
    pub fn has(&self, store: &str) -> bool {
        self.store.as_ref().is_some_and(|of| of.id == store)
    }

    /// The latest model it has of a store.
    #[must_use]
    pub fn model(&self, store: &str) -> Option<&str> {
        let held = self.store.as_ref().filter(|of| of.id == store)?;
        held.model.as_deref()
    }
}
