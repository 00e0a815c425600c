//! Kubernetes' command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use super::command::run;
use crate::tools::Program;

/// How long one command may take, if it does not say otherwise.
const DEADLINE: Duration = Duration::from_secs(60);

/// `kubectl` as one user of one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// As whom a file of settings says.
    ///
    /// # Errors
    ///
    /// When there is no `kubectl`.
    pub fn new(kubeconfig: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self {
            program: Program::Kubectl.find()?,
            kubeconfig: kubeconfig.into(),
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs a command; returns what it prints.
    ///
    /// # Errors
    ///
    /// When it fails, with what it said, or has not ended after a minute.
    pub async fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.run_with(args, "", DEADLINE).await
    }

    /// Applies manifests, server side.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let args = ["apply", "--server-side", "--filename=-"];
        self.run_with(args, manifests, DEADLINE).await
    }

    /// The object or list of objects that `kubectl get` gives for these arguments.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub async fn get<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Value> {
        let args = ["get", "--output=json"].into_iter().chain(args);
        let json = self.run(args).await?;
        serde_json::from_str(&json).with_context(|| format!("reading JSON of kubectl: {json}"))
    }

    /// Runs a command that reads `input`, for at most `deadline`; returns what it prints.
    ///
    /// # Errors
    ///
    /// When it fails, with what it said, or has not ended in time.
    pub async fn run_with<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        input: &str,
        deadline: Duration,
    ) -> Result<String> {
        let args: Vec<_> = args.into_iter().collect();
        let shown = format!("kubectl {}", args.join(" "));
        let mut command = Command::new(&self.program);
        command.args(&args).env("KUBECONFIG", &self.kubeconfig);
        run(&mut command, &shown, input, deadline).await
    }
}
