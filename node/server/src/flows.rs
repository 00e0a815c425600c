//! `meridian.v1.FlowService`: what the recorder has kept, over gRPC and, by [`crate::api::http`], over HTTP. A node without
//! flows of its own, an edge, passes every call up.

pub mod above;
mod asked;
pub(crate) mod events;
pub mod keeping;
pub(crate) mod told;
mod why;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use meridian_flow::ports::{DAY, FlowFilter};
use meridian_flow::recorder::{Overrides, OverridesChange};
use meridian_flow::{FlowId, FlowRecorder, FlowStatus, Repository, RepositoryError, retention};
use meridian_model::{Code, StoreId, Timestamp};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::flow_service_server::FlowService;
use meridian_proto::openfga::v1;
use tonic::{Request, Response, Status};

use crate::calls::{Calls, Context};
use crate::explanations::Explaining;
use crate::node_service::store_id;
use above::Above;

/// Longest a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of that a purge leaves to its last statement before it says that there is more.
const LAST: Duration = Duration::from_secs(5);

/// The service of a node.
pub struct Flows {
    /// Where flows are.
    pub kept: Kept,
}

/// Where flows are.
pub enum Kept {
    /// In this node's database.
    Here {
        /// The database.
        flows: Arc<dyn Repository>,
        /// What writes to it.
        recorder: FlowRecorder,
        /// By what stores are found.
        calls: Arc<dyn Calls>,
        /// What explains decisions.
        explaining: Box<Explaining>,
    },
    /// At a node above.
    Above {
        /// The nodes above.
        above: Arc<Above>,
        /// What this node records by.
        recorder: FlowRecorder,
    },
}

/// What a repository cannot do, as a client is told it.
fn failed(error: RepositoryError) -> Status {
    match error {
        RepositoryError::DeadlineExceeded => {
            Status::deadline_exceeded("the flows' database did not answer in time; try again")
        }
        error => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "flows cannot be read");
            Status::unavailable("the flows' database cannot be used now; try again")
        }
    }
}

fn now() -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Answers a call here, or has it answered above.
macro_rules! answered {
    ($self:ident, $request:ident, $method:ident, |$kept:ident, $message:ident, $deadline:ident| $here:expr) => {{
        let $deadline = Instant::now() + TIMEOUT;
        let $message = $request.into_inner();
        match &$self.kept {
            Kept::Above { above, .. } => above
                .flows($deadline, move |mut client| {
                    let message = $message.clone();
                    async move { client.$method(message).await }
                })
                .await
                .map(Response::new),
            Kept::Here {
                flows,
                recorder,
                calls,
                explaining,
            } => {
                let $kept = Here {
                    flows: &**flows,
                    recorder,
                    calls: &**calls,
                    explaining,
                };
                $here.await.map(Response::new)
            }
        }
    }};
}

#[async_trait]
impl FlowService for Flows {
    async fn list_flows(
        &self,
        request: Request<wire::ListFlowsRequest>,
    ) -> Result<Response<wire::ListFlowsResponse>, Status> {
        answered!(self, request, list_flows, |here, message, deadline| here
            .list(message, deadline))
    }

    async fn get_flow(
        &self,
        request: Request<wire::GetFlowRequest>,
    ) -> Result<Response<wire::GetFlowResponse>, Status> {
        answered!(self, request, get_flow, |here, message, deadline| here
            .get(message, deadline))
    }

    async fn get_flow_stats(
        &self,
        request: Request<wire::GetFlowStatsRequest>,
    ) -> Result<Response<wire::GetFlowStatsResponse>, Status> {
        answered!(self, request, get_flow_stats, |here, message, deadline| {
            here.stats(message, deadline)
        })
    }

    async fn get_daily_activity(
        &self,
        request: Request<wire::GetDailyActivityRequest>,
    ) -> Result<Response<wire::GetDailyActivityResponse>, Status> {
        answered!(
            self,
            request,
            get_daily_activity,
            |here, message, deadline| here.days(message, deadline)
        )
    }

    async fn purge_flows(
        &self,
        request: Request<wire::PurgeFlowsRequest>,
    ) -> Result<Response<wire::PurgeFlowsResponse>, Status> {
        answered!(self, request, purge_flows, |here, message, deadline| here
            .purge(message, deadline))
    }

    async fn get_recorder(
        &self,
        request: Request<wire::GetRecorderRequest>,
    ) -> Result<Response<wire::GetRecorderResponse>, Status> {
        if let Kept::Above { above, recorder } = &self.kept {
            let asked = above.get_recorder(recorder, request.into_inner()).await;
            return asked.map(Response::new);
        }
        answered!(self, request, get_recorder, |here, message, deadline| here
            .get_recorder(message, deadline))
    }

    async fn set_recorder(
        &self,
        request: Request<wire::SetRecorderRequest>,
    ) -> Result<Response<wire::SetRecorderResponse>, Status> {
        if let Kept::Above { above, recorder } = &self.kept {
            let set = above.set_recorder(recorder, request.into_inner()).await;
            return set.map(Response::new);
        }
        answered!(self, request, set_recorder, |here, message, deadline| here
            .set_recorder(message, deadline))
    }
}

/// Flows of this node's database.
#[derive(Clone, Copy)]
struct Here<'a> {
    flows: &'a dyn Repository,
    recorder: &'a FlowRecorder,
    calls: &'a dyn Calls,
    explaining: &'a Explaining,
}

impl Here<'_> {
    async fn list(
        self,
        request: wire::ListFlowsRequest,
        deadline: Instant,
    ) -> Result<wire::ListFlowsResponse, Status> {
        let store = store_id(&request.store_id)?;
        let filter = asked::filter(request.filter.unwrap_or_default())?;
        let size = asked::page_size(request.page_size)?;
        let before = asked::token(&request.continuation_token)?;
        let page = self.flows.get_flows(store, &filter, before, size, deadline);
        let page = page.await.map_err(failed)?;
        let counted = if request.count {
            let count = self.flows.count_flows(store, &filter, deadline);
            Some(count.await.map_err(failed)?)
        } else {
            None
        };
        Ok(wire::ListFlowsResponse {
            continuation_token: page.next.map(asked::to_token).unwrap_or_default(),
            flows: page.flows.into_iter().map(told::flow).collect(),
            total: counted.map(|counted| counted.flows),
            total_is_minimum: counted.is_some_and(|counted| counted.more),
        })
    }

    async fn get(
        self,
        request: wire::GetFlowRequest,
        deadline: Instant,
    ) -> Result<wire::GetFlowResponse, Status> {
        let store = store_id(&request.store_id)?;
        let id: FlowId = request
            .id
            .parse()
            .map_err(|why| Status::invalid_argument(format!("id '{}' {why}", request.id)))?;
        let flow = self.flows.get_flow_by_id(store, id, deadline);
        let flow = flow.await.map_err(failed)?.ok_or_else(|| {
            Status::not_found(format!(
                "store '{store}' has no flow '{id}': it never had, or it is older than flows are kept"
            ))
        })?;
        let steps = self.flows.get_steps_for_flow(id, deadline);
        let steps = steps.await.map_err(failed)?;
        let session = self.flows.get_session_of_flow(store, id, deadline);
        let session = session.await.map_err(failed)?;
        let explanation = if request.explain {
            Some(why::decided(self.explaining, &flow, deadline).await?)
        } else {
            None
        };
        Ok(wire::GetFlowResponse {
            flow: Some(told::flow(flow)),
            steps: told::steps(steps),
            explanation,
            session: session.map(told::session),
        })
    }

    async fn stats(
        self,
        request: wire::GetFlowStatsRequest,
        deadline: Instant,
    ) -> Result<wire::GetFlowStatsResponse, Status> {
        let store = store_id(&request.store_id)?;
        let to = request.to_micros.unwrap_or_else(|| now() + 1);
        let from = request.from_micros.unwrap_or(to.saturating_sub(DAY));
        asked::in_order(from, to)?;
        let stats = self
            .flows
            .get_stats(store, Timestamp(from), Timestamp(to), deadline);
        Ok(told::stats(stats.await.map_err(failed)?))
    }

    async fn days(
        self,
        request: wire::GetDailyActivityRequest,
        deadline: Instant,
    ) -> Result<wire::GetDailyActivityResponse, Status> {
        let store = store_id(&request.store_id)?;
        let days = i64::from(asked::days(request.days)?);
        let today = now().div_euclid(DAY);
        let tomorrow = (today + 1) * DAY;
        let to = request.to_micros.unwrap_or(tomorrow).clamp(1, tomorrow);
        let from = ((to - 1).div_euclid(DAY) + 1 - days) * DAY;
        let found = self
            .flows
            .get_daily_activity(store, Timestamp(from), Timestamp(to), deadline);
        Ok(told::days(&found.await.map_err(failed)?))
    }

    async fn purge(
        self,
        request: wire::PurgeFlowsRequest,
        deadline: Instant,
    ) -> Result<wire::PurgeFlowsResponse, Status> {
        let store = store_id(&request.store_id)?;
        let before = Timestamp(request.before_micros);
        let until = deadline.checked_sub(LAST).unwrap_or(deadline);
        let purged = retention::purge(self.flows, store, before, until);
        let retention::Purged { flows, more } = purged.await.map_err(failed)?;
        Ok(wire::PurgeFlowsResponse {
            purged: flows,
            more,
        })
    }

    /// Refuses a store that there is not: nobody would ever clear away what is set of it.
    async fn check_exists(self, store: StoreId, deadline: Instant) -> Result<(), Status> {
        let request = v1::GetStoreRequest {
            store_id: store.to_string(),
        };
        let found = self.calls.get_store(&Context::own(deadline), request).await;
        match found.map_err(|refusal| refusal.error) {
            Ok(_) => Ok(()),
            Err(error) if error.code == Code::StoreIdNotFound => {
                Err(Status::not_found(format!("there is no store '{store}'")))
            }
            Err(error) if error.code == Code::DeadlineExceeded => {
                Err(Status::deadline_exceeded(error.message))
            }
            Err(error) => Err(Status::unavailable(error.message)),
        }
    }

    async fn overrides(self, store: StoreId, deadline: Instant) -> Result<Overrides, Status> {
        let set = self.flows.get_overrides_of(store, deadline);
        set.await.map_err(failed)
    }

    async fn get_recorder(
        self,
        request: wire::GetRecorderRequest,
        deadline: Instant,
    ) -> Result<wire::GetRecorderResponse, Status> {
        let store = store_id(&request.store_id)?;
        let set = self.overrides(store, deadline).await?;
        let settings = set.over(self.recorder.defaults());
        Ok(wire::GetRecorderResponse {
            process_enabled: self.recorder.is_on(),
            enabled: settings.enabled,
            sampling: settings.sampling,
            retention_seconds: settings.retention.as_secs(),
        })
    }

    async fn set_recorder(
        self,
        request: wire::SetRecorderRequest,
        deadline: Instant,
    ) -> Result<wire::SetRecorderResponse, Status> {
        let store = store_id(&request.store_id)?;
        let change = asked::overrides(&request)?;
        self.check_exists(store, deadline).await?;
        if change != OverridesChange::default() {
            let changed = self.flows.change_overrides(store, &change, deadline);
            changed.await.map_err(failed)?;
            let all = self.flows.get_overrides(deadline).await.map_err(failed)?;
            self.recorder.set_overrides(&all);
        }
        if let Some(on) = request.process_enabled {
            self.recorder.switch().store(on, Ordering::Relaxed);
        }
        let asked = wire::GetRecorderRequest {
            store_id: request.store_id,
        };
        let recorder = Some(self.get_recorder(asked, deadline).await?);
        Ok(wire::SetRecorderResponse { recorder })
    }
}
