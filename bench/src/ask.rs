//! Calls that are made by an ordinary client, a few at a time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use meridian_model::{TupleKey, dsl};
use meridian_proto::google::value::Kind;
use meridian_proto::google::{Struct, Value};
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use meridian_server::api::convert::model_to_wire;
use tonic::metadata::AsciiMetadataValue as AsciiValue;
use tonic::transport::{Channel, Endpoint};

use crate::data::{Asked, MODEL};
use crate::load::{Timing, histogram};

/// Calls in flight.
pub const IN_FLIGHT: usize = 8;
/// Tuples in a Write, the most that both take by default.
const IN_A_WRITE: usize = 100;
const DEADLINE: Duration = Duration::from_secs(30);
/// How long the edge may take to hold everything.
const HELD_WITHIN: Duration = Duration::from_secs(120);

/// A server of OpenFGA's API.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    client: OpenFgaServiceClient<Channel>,
}

impl Api {
    /// Connects when it is first used.
    ///
    /// # Errors
    /// None: an address makes a URL.
    pub fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = endpoint.timeout(DEADLINE).tcp_nodelay(true).connect_lazy();
        Ok(Self {
            address,
            client: OpenFgaServiceClient::new(channel),
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A store with the benchmark's model; its id.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn create_store(&self, name: &str) -> anyhow::Result<String> {
        let mut client = self.client.clone();
        let request = v1::CreateStoreRequest { name: name.into() };
        let store = client.create_store(request).await?.into_inner().id;
        let model = dsl::parse(MODEL).map_err(|why| anyhow::anyhow!("{why:?}"))?;
        let model = model_to_wire("", &model);
        let request = v1::WriteAuthorizationModelRequest {
            store_id: store.clone(),
            type_definitions: model.type_definitions,
            schema_version: model.schema_version,
            conditions: model.conditions,
        };
        client.write_authorization_model(request).await?;
        Ok(store)
    }

    /// Waits until questions are answered by the edge itself.
    ///
    /// # Errors
    /// When a call fails, or that takes two minutes.
    pub async fn until_served_by_edge(
        &self,
        store: &str,
        questions: &[Asked],
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        for asked in questions.iter().cycle() {
            ensure!(
                start.elapsed() < HELD_WITHIN,
                "the edge does not come to hold the store"
            );
            let request = v1::CheckRequest {
                store_id: store.into(),
                tuple_key: Some(asked.key()),
                ..Default::default()
            };
            let answer = self.client.clone().check(request).await?;
            if is_by_edge(&answer) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until the edge itself shows what was written at a revision: it has let go of all that the write made untrue.
    async fn until_shown(
        &self,
        store: &str,
        key: &v1::TupleKey,
        at: &AsciiValue,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            let mut request = tonic::Request::new(v1::CheckRequest {
                store_id: store.into(),
                tuple_key: Some(v1::CheckRequestTupleKey {
                    user: key.user.clone(),
                    relation: key.relation.clone(),
                    object: key.object.clone(),
                }),
                ..Default::default()
            });
            request
                .metadata_mut()
                .insert("meridian-min-revision", at.clone());
            let answer = self.client.clone().check(request).await?;
            ensure!(
                answer.get_ref().allowed,
                "{key:?} was written and is denied"
            );
            if is_by_edge(&answer) {
                return Ok(());
            }
        }
        anyhow::bail!("the edge does not come to show what was written")
    }
}

fn is_by_edge<T>(answer: &tonic::Response<T>) -> bool {
    let by = answer.metadata().get("meridian-served-by");
    by.is_some_and(|by| by.as_bytes().starts_with(b"edge/"))
}

/// Makes all calls, [`IN_FLIGHT`] at a time, each for itself measured.
async fn all<C, T>(
    calls: impl IntoIterator<Item = C>,
    call: impl AsyncFn(C) -> anyhow::Result<T>,
) -> anyhow::Result<(Timing, Vec<T>)> {
    let start = Instant::now();
    let measured = async |one| {
        let start = Instant::now();
        let answer = call(one).await?;
        anyhow::Ok((start.elapsed(), answer))
    };
    let measured = &measured;
    let done: Vec<_> = stream::iter(calls)
        .map(measured)
        .buffered(IN_FLIGHT)
        .try_collect()
        .await?;
    let took = start.elapsed();
    let mut latencies = histogram()?;
    let mut answers = Vec::with_capacity(done.len());
    for (one, answer) in done {
        latencies.record(u64::try_from(one.as_nanos())?)?;
        answers.push(answer);
    }
    Ok((Timing { took, latencies }, answers))
}

/// Writes of new tuples.
pub struct Writes<'a> {
    api: &'a Api,
    requests: Vec<v1::WriteRequest>,
    shown_by: Option<&'a Api>,
}

impl<'a> Writes<'a> {
    /// Writes of [`IN_A_WRITE`] tuples.
    pub fn new(api: &'a Api, store: &str, tuples: &[TupleKey]) -> Self {
        Self::of(api, store, tuples, IN_A_WRITE)
    }

    /// Writes of so many tuples each.
    pub fn of(api: &'a Api, store: &str, tuples: &[TupleKey], size: usize) -> Self {
        let key = |key: &TupleKey| v1::TupleKey {
            user: key.subject.to_string(),
            relation: key.relation.to_string(),
            object: key.object.to_string(),
            condition: None,
        };
        let request = |chunk: &[TupleKey]| v1::WriteRequest {
            store_id: store.into(),
            writes: Some(v1::WriteRequestWrites {
                tuple_keys: chunk.iter().map(key).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        Self {
            api,
            requests: tuples.chunks(size).map(request).collect(),
            shown_by: None,
        }
    }

    /// Each is over once the edge shows it.
    pub fn until_shown_by(self, edge: &'a Api) -> Self {
        Self {
            shown_by: Some(edge),
            ..self
        }
    }

    /// `took` is of all tuples, latencies are of whole Writes.
    ///
    /// # Errors
    /// At the first Write that fails, or is not shown in time.
    pub async fn run(self) -> anyhow::Result<Timing> {
        let (api, shown_by) = (self.api, self.shown_by);
        let write = async |request: v1::WriteRequest| {
            let Some(edge) = shown_by else {
                api.client.clone().write(request).await?;
                return Ok(());
            };
            let store = request.store_id.clone();
            let written = request.writes.iter().flat_map(|writes| &writes.tuple_keys);
            let last = written.last().cloned().context("nothing to write")?;
            let answer = api.client.clone().write(request).await?;
            let at = answer.metadata().get("meridian-revision");
            let at = at.context("a write without a revision")?;
            edge.until_shown(&store, &last, at).await
        };
        Ok(all(self.requests, write).await?.0)
    }
}

/// Batches of checks, with what must be answered.
pub struct Batches<'a> {
    api: &'a Api,
    requests: Vec<(v1::BatchCheckRequest, &'a [(Asked, bool)])>,
}

impl<'a> Batches<'a> {
    /// Batches of so many checks each.
    pub fn new(api: &'a Api, store: &str, asked: &'a [(Asked, bool)], size: usize) -> Self {
        Self::of(api, store, asked, size, |_| None)
    }

    /// Each check has a context of its own, which nothing reads: no two are equal, however alike they are.
    pub fn told_apart(api: &'a Api, store: &str, asked: &'a [(Asked, bool)], size: usize) -> Self {
        Self::of(api, store, asked, size, |index| {
            let number = Value {
                kind: Some(Kind::NumberValue(index as f64)),
            };
            Some(Struct {
                fields: [("number".into(), number)].into(),
            })
        })
    }

    fn of(
        api: &'a Api,
        store: &str,
        asked: &'a [(Asked, bool)],
        size: usize,
        context: impl Fn(usize) -> Option<Struct>,
    ) -> Self {
        let item = |(index, (asked, _)): (usize, &(Asked, bool))| v1::BatchCheckItem {
            tuple_key: Some(asked.key()),
            correlation_id: index.to_string(),
            context: context(index),
            ..Default::default()
        };
        let request = |chunk: &'a [(Asked, bool)]| {
            let request = v1::BatchCheckRequest {
                store_id: store.into(),
                checks: chunk.iter().enumerate().map(item).collect(),
                ..Default::default()
            };
            (request, chunk)
        };
        Self {
            api,
            requests: asked.chunks(size).map(request).collect(),
        }
    }

    /// Latencies are of whole batches.
    ///
    /// # Errors
    /// At the first check that is not answered as it must be.
    pub async fn run(self) -> anyhow::Result<Timing> {
        let api = self.api;
        let batch = async |(request, wanted): (v1::BatchCheckRequest, &[(Asked, bool)])| {
            let answer = api.client.clone().batch_check(request).await?.into_inner();
            for (index, (asked, allowed)) in wanted.iter().enumerate() {
                let result = answer.result.get(&index.to_string());
                let result = result.and_then(|result| result.check_result.as_ref());
                let right = matches!(result, Some(CheckResult::Allowed(got)) if got == allowed);
                ensure!(right, "{asked:?} was answered {result:?}, not {allowed}");
            }
            Ok(())
        };
        Ok(all(self.requests, batch).await?.0)
    }
}

/// Listings of what users have a relation to.
pub struct Lists<'a> {
    api: &'a Api,
    requests: Vec<v1::ListObjectsRequest>,
}

impl<'a> Lists<'a> {
    /// Listings of the objects of a type, for each user.
    pub fn new(
        api: &'a Api,
        store: &str,
        object_type: &str,
        relation: &str,
        users: &[String],
    ) -> Self {
        let request = |user: &String| v1::ListObjectsRequest {
            store_id: store.into(),
            r#type: object_type.into(),
            relation: relation.into(),
            user: user.clone(),
            ..Default::default()
        };
        Self {
            api,
            requests: users.iter().map(request).collect(),
        }
    }

    /// With what each listed.
    ///
    /// # Errors
    /// At the first call that fails.
    pub async fn run(self) -> anyhow::Result<(Timing, Vec<BTreeSet<String>>)> {
        let api = self.api;
        let list = async |request: v1::ListObjectsRequest| {
            let user = request.user.clone();
            let answer = api.client.clone().list_objects(request).await;
            let answer = answer.with_context(|| format!("listing for {user}"))?;
            Ok(answer.into_inner().objects.into_iter().collect())
        };
        all(self.requests, list).await
    }
}
