//! Meridian on a running cluster, as its users install it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use super::access::Access;
use super::command::run;
use crate::images::Images;
use crate::tools::{self, Program};

/// Where the operator is installed.
pub const OPERATOR_NAMESPACE: &str = "meridian-system";

const INSTALL_DEADLINE: Duration = Duration::from_secs(240);
const SQL_DEADLINE: Duration = Duration::from_secs(30);
const SERVERS: &str = include_str!("settings/servers.yaml");

impl Access {
    /// Loads all images.
    ///
    /// # Errors
    ///
    /// When containerd refuses one.
    pub async fn load(&self, images: &Images) -> Result<()> {
        for image in images.all() {
            self.import(&image.archive).await?;
        }
        Ok(())
    }

    /// Gives Kafka and PostgreSQL the names in the cluster that the examples call them by: `kafka.kafka:9092` and
    /// `postgres.databases:5432`.
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub async fn name_servers(&self) -> Result<()> {
        let manifests = SERVERS.replace("{node}", &self.node().to_string());
        self.kubectl()?.apply(&manifests).await?;
        Ok(())
    }

    /// Installs the operator from its chart, or upgrades it, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When Helm refuses the chart, or the operator does not become ready in four minutes.
    pub async fn install_operator(&self, chart: &Path, images: &Images) -> Result<()> {
        let set = |key: &str, value: &str| format!("--set-string={key}={value}");
        let mut helm = Command::new(Program::Helm.find()?);
        helm.args(["upgrade", "--install", "meridian"])
            .arg(chart)
            .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"])
            .args([
                set("image.repository", &images.operator.repository),
                set("image.tag", &images.operator.tag),
                set("nodeImage.repository", &images.node.repository),
                set("nodeImage.tag", &images.node.tag),
            ])
            .args(["--wait", "--timeout=3m"])
            .env("KUBECONFIG", self.kubeconfig());
        let shown = "helm upgrade --install meridian";
        run(&mut helm, shown, "", INSTALL_DEADLINE).await?;
        Ok(())
    }

    /// Runs SQL statements in one of PostgreSQL's databases, of which there is `postgres`; returns the rows, a line each.
    ///
    /// # Errors
    ///
    /// When one fails.
    pub async fn sql(&self, database: &str, statements: &str) -> Result<String> {
        let mut psql = Command::new(tools::postgres_bin()?.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
            .args(["--tuples-only", "--no-align"])
            .args(["--dbname", &format!("{}/{database}", self.postgres)]);
        run(&mut psql, "psql", statements, SQL_DEADLINE).await
    }
}
