//! The command line: `meridian`, and the three node binaries.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgGroup, Args, Parser, Subcommand};
use meridian_model::dsl;

use crate::client::{Client, parse_model, parse_tuple};
use crate::config::{Config, Source};
use crate::dev::{self, Dev};
use crate::roles::Node;
use crate::schema::{self, Migrate};
use crate::telemetry::{self, Logging};

/// Authorization that answers next to the user.
#[derive(Debug, Parser)]
#[command(name = "meridian", version)]
struct Meridian {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs central, regional and edge in one process, with a sample store to try.
    Dev(Dev),
    /// Brings a database to this version's schema, which nodes otherwise do when they start.
    Migrate(Migrate),
    /// Asks a node whether a user has a relation to an object.
    Check {
        #[command(flatten)]
        at: At,
        /// The question: object#relation@user, like repo:acme/api#reader@user:anne.
        question: String,
    },
    /// Writes tuples.
    Write {
        #[command(flatten)]
        at: At,
        /// Tuples: object#relation@user.
        #[arg(required = true)]
        tuples: Vec<String>,
    },
    /// Deletes tuples.
    Delete {
        #[command(flatten)]
        at: At,
        /// Tuples: object#relation@user.
        #[arg(required = true)]
        tuples: Vec<String>,
    },
    /// Assigns how far the data of a store's types travel: Critical to every edge, Cold to none, all others Warm. Whatever
    /// was assigned before ends.
    #[command(group = ArgGroup::new("which").required(true).multiple(true))]
    Tiers {
        #[command(flatten)]
        at: At,
        /// Types of which every edge holds every tuple.
        #[arg(long, value_delimiter = ',', group = "which")]
        critical: Vec<String>,
        /// Types of which no edge keeps anything.
        #[arg(long, value_delimiter = ',', group = "which")]
        cold: Vec<String>,
        /// Makes every type Warm.
        #[arg(long, group = "which", conflicts_with_all = ["critical", "cold"])]
        all_warm: bool,
    },
    /// Creates a store and prints its id.
    CreateStore {
        /// gRPC address of a node.
        #[arg(long, env = "MERIDIAN_API", default_value = "127.0.0.1:8081")]
        api: String,
        /// Its name.
        name: String,
    },
    /// Checks a model in the modelling language, and writes it to a store or prints it.
    Model {
        /// The file.
        file: PathBuf,
        /// Prints it as OpenFGA's JSON instead of the modelling language.
        #[arg(long, conflicts_with = "store")]
        json: bool,
        /// Writes it to this store and prints its id.
        #[arg(long)]
        store: Option<String>,
        /// gRPC address of a node.
        #[arg(long, env = "MERIDIAN_API", default_value = "127.0.0.1:8081")]
        api: String,
    },
}

/// A store at a node.
#[derive(Debug, Args)]
struct At {
    /// gRPC address of a node.
    #[arg(long, env = "MERIDIAN_API", default_value = "127.0.0.1:8081")]
    api: String,
    /// The store's id.
    #[arg(long, env = "MERIDIAN_STORE")]
    store: String,
}

/// `meridian`.
pub fn meridian() -> ExitCode {
    let command = Meridian::parse().command;
    to_the_end(run(command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Dev(options) => dev::run(options).await,
        Command::Migrate(options) => schema::migrate(options).await,
        other => ask(other).await,
    }
}

async fn ask(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Dev(_) | Command::Migrate(_) => {}
        Command::Check { at, question } => {
            let checked = Client::new(&at.api)?
                .check(&at.store, &parse_tuple(&question)?)
                .await?;
            println!(
                "{}  served by {}  at revision {}",
                if checked.allowed { "allowed" } else { "denied" },
                checked.served_by,
                checked.revision
            );
        }
        Command::Write { at, tuples } => {
            let tuples = tuples
                .iter()
                .map(|text| parse_tuple(text))
                .collect::<anyhow::Result<Vec<_>>>()?;
            println!(
                "written  revision {}",
                Client::new(&at.api)?.write(&at.store, &tuples).await?
            );
        }
        Command::Delete { at, tuples } => {
            let tuples = tuples
                .iter()
                .map(|text| parse_tuple(text))
                .collect::<anyhow::Result<Vec<_>>>()?;
            println!(
                "deleted  revision {}",
                Client::new(&at.api)?.delete(&at.store, &tuples).await?
            );
        }
        Command::Tiers {
            at, critical, cold, ..
        } => {
            let mut client = Client::new(&at.api)?;
            client.assign_tiers(&at.store, critical, cold).await?;
            for (object_type, tier) in client.tiers(&at.store).await? {
                println!("{tier:<10}{object_type}");
            }
        }
        Command::CreateStore { api, name } => {
            println!("{}", Client::new(&api)?.create_store(&name).await?)
        }
        Command::Model {
            file,
            json,
            store,
            api,
        } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let types = parse_model(&text).with_context(|| file.display().to_string())?;
            match store {
                Some(store) => println!("{}", Client::new(&api)?.write_model(&store, &text).await?),
                None if json => println!("{}", serde_json::to_string_pretty(&**types.model())?),
                None => print!("{}", dsl::print(types.model())),
            }
        }
    }
    Ok(())
}

#[derive(Debug, Parser)]
#[command(version)]
struct NodeOptions {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    logging: Logging,
}

/// A node's binary: reads its settings, starts, and stops in order when told to.
pub fn node(start: impl AsyncFnOnce(&Config) -> anyhow::Result<Node>) -> ExitCode {
    let options = NodeOptions::parse();
    let run = async {
        options.logging.start("info")?;
        let config = options.source.load()?;
        if let Some(address) = config.listen.metrics {
            telemetry::serve_metrics(address).context("listen.metrics")?;
        }
        let node = start(&config).await?;
        let signal = stop_signal().await?;
        tracing::info!(signal, "stopping");
        node.stop().await;
        Ok(())
    };
    to_the_end(run)
}

/// How long what still runs at the end (a client of Kafka that waits for a broker) may take to notice.
const LAST_WAIT: Duration = Duration::from_secs(2);

fn to_the_end(run: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = built.map_err(Into::into).and_then(|runtime| {
        let outcome = runtime.block_on(run);
        runtime.shutdown_timeout(LAST_WAIT);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn stop_signal() -> anyhow::Result<&'static str> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => { interrupted?; Ok("SIGINT") }
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}
