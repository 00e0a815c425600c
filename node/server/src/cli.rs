//! The command line: `meridian`, and the node binaries.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use meridian_model::{StoreId, dsl};

use crate::client::{Access, Client, parse_model, parse_tuple};
use crate::config::tracing::Tracing;
use crate::config::{Config, Environment, Role, Source, without_empty};
use crate::dev::{self, Dev};
use crate::roles::Node;
use crate::schema::{self, Migrate};
use crate::telemetry::{self, Logging, Measuring, traces};

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
    /// Asks a node whether a user has a relation to an object. Ends with 0 when allowed, 1 when denied, 2 when there is no
    /// answer.
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
    /// Shows, or assigns, how far the data of a store's types travel: Critical to every edge, Cold to none, all others
    /// Warm. Whatever was assigned before ends.
    #[command(group = ArgGroup::new("which").multiple(true))]
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
        #[command(flatten)]
        access: Access,
        /// Its name.
        name: String,
    },
    /// Lists the stores: id and name.
    Stores {
        #[command(flatten)]
        access: Access,
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
        store: Option<StoreId>,
        #[command(flatten)]
        access: Access,
    },
}

/// A store at a node.
#[derive(Debug, Args)]
struct At {
    #[command(flatten)]
    access: Access,
    /// The store's id.
    #[arg(long, env = "MERIDIAN_STORE")]
    store: StoreId,
}

/// How `meridian check` ends when the answer is no, and when there is none.
const DENIED: u8 = 1;
const NO_ANSWER: u8 = 2;

/// `meridian`.
pub fn meridian() -> ExitCode {
    let given = without_empty(Meridian::command()).get_matches();
    let options = Meridian::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    match options.command {
        Command::Dev(options) => to_the_end(dev::run(options)),
        Command::Migrate(options) => to_the_end(schema::migrate(options)),
        Command::Check { at, question } => {
            let mut allowed = false;
            let asked = to_the_end(async {
                allowed = check(&at, &question).await?;
                Ok(())
            });
            match (asked == ExitCode::SUCCESS, allowed) {
                (false, _) => ExitCode::from(NO_ANSWER),
                (true, false) => ExitCode::from(DENIED),
                (true, true) => ExitCode::SUCCESS,
            }
        }
        other => to_the_end(ask(other)),
    }
}

/// Prints the answer; whether it is yes.
async fn check(at: &At, question: &str) -> anyhow::Result<bool> {
    let question = parse_tuple(question)?;
    let checked = Client::with(&at.access)?
        .check(at.store.as_str(), &question)
        .await?;
    println!(
        "{}  served by {}  at revision {}",
        if checked.allowed { "allowed" } else { "denied" },
        checked.served_by,
        checked.revision
    );
    Ok(checked.allowed)
}

async fn ask(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Dev(_) | Command::Migrate(_) | Command::Check { .. } => {}
        Command::Write { at, tuples } => {
            let tuples = tuples
                .iter()
                .map(|text| parse_tuple(text))
                .collect::<anyhow::Result<Vec<_>>>()?;
            println!(
                "written  revision {}",
                Client::with(&at.access)?
                    .write(at.store.as_str(), &tuples)
                    .await?
            );
        }
        Command::Delete { at, tuples } => {
            let tuples = tuples
                .iter()
                .map(|text| parse_tuple(text))
                .collect::<anyhow::Result<Vec<_>>>()?;
            println!(
                "deleted  revision {}",
                Client::with(&at.access)?
                    .delete(at.store.as_str(), &tuples)
                    .await?
            );
        }
        Command::Tiers {
            at,
            critical,
            cold,
            all_warm,
        } => {
            let (mut client, store) = (Client::with(&at.access)?, at.store.as_str());
            if all_warm || !critical.is_empty() || !cold.is_empty() {
                client.assign_tiers(store, critical, cold).await?;
            }
            for (object_type, tier) in client.tiers(store).await? {
                println!("{tier:<10}{object_type}");
            }
        }
        Command::CreateStore { access, name } => {
            println!("{}", Client::with(&access)?.create_store(&name).await?)
        }
        Command::Stores { access } => {
            for (id, name) in Client::with(&access)?.stores().await? {
                println!("{id}  {name}");
            }
        }
        Command::Model {
            file,
            json,
            store,
            access,
        } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let types = parse_model(&text).with_context(|| file.display().to_string())?;
            match store {
                Some(store) => println!(
                    "{}",
                    Client::with(&access)?
                        .write_model(store.as_str(), &text)
                        .await?
                ),
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
    #[command(flatten)]
    measuring: Measuring,
}

/// A node's binary, whose help begins with `about`: reads its settings, starts, and stops in order when told to.
pub fn node(
    role: Role,
    about: &'static str,
    start: impl AsyncFnOnce(&Config) -> anyhow::Result<Node>,
) -> ExitCode {
    let command = NodeOptions::command().about(about);
    let given = without_empty(command).get_matches();
    let options = NodeOptions::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    let run = async {
        let environment = Environment::of_process();
        options.logging.or(environment.logs()?).start("info")?;
        let config = options.source.load(&environment)?;
        for told in [environment.without_effect(), config.advice(role)].concat() {
            tracing::warn!("{told}");
        }
        if let Some(address) = config.listen.metrics {
            telemetry::serve_metrics(address, &options.measuring).context("listen.metrics")?;
        }
        if let Some(tracing) = Tracing::from_environment()? {
            traces::start(&tracing, &config.name)?;
        }
        let node = start(&config).await?;
        let signal = stop_signal().await?;
        tracing::info!(signal, "stopping");
        node.stop().await;
        traces::stop().await;
        Ok(())
    };
    to_the_end(run)
}

/// How long what still runs at the end (a long evaluation, a file that is read) may take to notice.
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
