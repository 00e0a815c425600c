//! A small API server in memory, nodes that answer what they are told to, and the operator's view of both.

mod nodes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::DynamicObject;
use kube::client::Body;
use kube::runtime::{reflector, watcher};
use meridian_operator::api::{AuthzStore, EdgeRegion};
use meridian_operator::build::{EDGE_REGION, Kind};
use meridian_operator::events::Events;
use meridian_operator::lease::Leadership;
use meridian_operator::reconcile::{self, Caches, Children, Context, Error, Rivals};
use serde_json::{Value, json};

use self::nodes::Told;
pub(crate) use self::nodes::{FakeNodes, healthy};
use crate::fixtures::{NAMESPACE, full_secrets, secret_json, settings};

/// One call of the API server: method and path, without query.
pub(crate) type Call = (Method, String);

const MERGE: &str = "application/merge-patch+json";

/// What the API server holds, by path, and what became of it.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) objects: BTreeMap<String, Value>,
    pub(crate) calls: Vec<Call>,
    /// Events published.
    pub(crate) events: Vec<Value>,
    /// Answers of calls whose method and path are these; status 0 is none at all.
    pub(crate) faults: Vec<(Method, String, u16)>,
    /// Calls that are answered all the same.
    pub(crate) exempt: Vec<(Method, String)>,
    version: u64,
}

impl Server {
    fn answer(&mut self, parts: &http::request::Parts, body: Value) -> Option<(u16, Value)> {
        let (method, path) = (&parts.method, parts.uri.path());
        self.calls.push((method.clone(), path.to_owned()));
        let is_exempt = |(of, at): &(Method, String)| of == method && path.ends_with(at.as_str());
        let fault = self.faults.iter().find(|(of, part, _)| {
            of == method && path.contains(part.as_str()) && !self.exempt.iter().any(is_exempt)
        });
        match fault {
            Some((_, _, 0)) => return None,
            Some((_, _, code)) => return Some((*code, status(*code, "as the test asked"))),
            None => {}
        }
        if self.is_another(method, path, &body) {
            return Some((409, status(409, "it is not the object that was meant")));
        }
        let content = parts.headers.get("content-type");
        let is_merge = content.is_some_and(|of| of == MERGE);
        Some(match *method {
            Method::GET => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => (404, status(404, "not found")),
            },
            Method::PATCH if path.contains("/events/") => {
                self.events.push(body.clone());
                (200, body)
            }
            Method::PATCH if is_merge => (200, self.merge(path, &body)),
            Method::PATCH => (200, self.apply(path, body)),
            Method::DELETE => match self.objects.remove(path) {
                Some(object) => {
                    if body["propagationPolicy"] != "Orphan" {
                        self.collect(&object["metadata"]["uid"]);
                    }
                    (200, object)
                }
                None => (404, status(404, "not found")),
            },
            Method::POST if path.ends_with("/events") => {
                self.events.push(body.clone());
                (201, body)
            }
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap();
                let path = format!("{path}/{name}");
                (201, self.replace(&path, body))
            }
            Method::PUT => {
                let before = &self.objects[path]["metadata"]["resourceVersion"];
                if *before != body["metadata"]["resourceVersion"] {
                    return Some((409, status(409, "the object has been modified")));
                }
                (200, self.replace(path, body))
            }
            _ => (405, status(405, "not known to this server")),
        })
    }

    /// Whether a write names another object than the one that is there, or a version of before.
    fn is_another(&self, method: &Method, path: &str, body: &Value) -> bool {
        let live = self.objects.get(path.trim_end_matches("/status"));
        let meant = match (method, live) {
            (&Method::PATCH, _) => &body["metadata"],
            (&Method::DELETE, Some(_)) => &body["preconditions"],
            _ => return false,
        };
        ["uid", "resourceVersion"].iter().any(|field| {
            let live = live.map(|of| &of["metadata"][field]);
            !meant[field].is_null() && live != Some(&meant[field])
        })
    }

    /// Removes the pods of an owner that has gone.
    fn collect(&mut self, owner: &Value) {
        self.objects.retain(|_, of| {
            let is_owned = of["metadata"]["ownerReferences"][0]["uid"] == *owner;
            of["kind"] != "Pod" || owner.is_null() || !is_owned
        });
    }

    /// As far as it matters: of the metadata only.
    fn merge(&mut self, path: &str, body: &Value) -> Value {
        let mut object = self.objects[path].clone();
        for (key, value) in body["metadata"].as_object().into_iter().flatten() {
            object["metadata"][key] = value.clone();
        }
        self.replace(path, object)
    }

    fn replace(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// As far as it matters: what is applied replaces what was applied before; a status is a part of its object.
    fn apply(&mut self, path: &str, body: Value) -> Value {
        self.version += 1;
        let version = self.version.to_string();
        if let Some(whole) = path.strip_suffix("/status") {
            let object = self.objects.entry(whole.to_owned()).or_insert(body.clone());
            object["status"] = body["status"].clone();
            object["metadata"]["resourceVersion"] = json!(version);
            return object.clone();
        }
        let before = self.objects.get(path).cloned().unwrap_or_default();
        let mut object = body;
        if object["spec"].is_null() {
            object["spec"] = before["spec"].clone();
        }
        for (key, kept) in before["metadata"].as_object().into_iter().flatten() {
            if object["metadata"][key].is_null() {
                object["metadata"][key] = kept.clone();
            }
        }
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-of-{path}"));
        }
        let is_changed = before["spec"] != object["spec"];
        let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + i64::from(is_changed));
        object["metadata"]["resourceVersion"] = json!(version);
        object["status"] = before["status"].clone();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        _ => "InternalError",
    };
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "message": message, "reason": reason,
    })
}

/// The API server, the nodes, and what the operator sees of them.
pub(crate) struct World {
    pub(crate) server: Arc<Mutex<Server>>,
    pub(crate) nodes: Arc<FakeNodes>,
}

impl World {
    /// With the Secrets that the fixtures name, and nodes that are ready.
    pub(crate) fn new() -> Self {
        let world = Self {
            server: Arc::default(),
            nodes: Arc::default(),
        };
        world.told(|told| told.status = healthy());
        for (name, values) in full_secrets() {
            let values = values.iter().map(|(key, value)| (*key, value.as_str()));
            let mut secret = secret_json(name, values);
            secret["metadata"]["resourceVersion"] = json!("7");
            world.put(secret);
        }
        world
    }

    pub(crate) fn told<T>(&self, with: impl FnOnce(&mut Told) -> T) -> T {
        with(&mut self.nodes.0.lock().unwrap())
    }

    pub(crate) fn server<T>(&self, with: impl FnOnce(&mut Server) -> T) -> T {
        with(&mut self.server.lock().unwrap())
    }

    /// Puts an object there, as somebody else would.
    pub(crate) fn put(&self, object: Value) {
        let path = path(
            object["apiVersion"].as_str().unwrap(),
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap(),
        );
        self.server(|server| server.objects.insert(path, object));
    }

    /// An object that is there.
    pub(crate) fn get(&self, api: &str, kind: &str, name: &str) -> Option<Value> {
        self.server(|server| server.objects.get(&path(api, kind, name)).cloned())
    }

    /// Changes an object that is there.
    pub(crate) fn change(
        &self,
        api: &str,
        kind: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        self.server(|server| {
            let object = server.objects.get_mut(&path(api, kind, name));
            change(object.unwrap_or_else(|| panic!("no {kind} {name}")));
        });
    }

    /// Writes since the last time this was called.
    pub(crate) fn writes(&self) -> Vec<Call> {
        self.server(|server| {
            let calls = std::mem::take(&mut server.calls);
            calls
                .into_iter()
                .filter(|(method, _)| method != Method::GET)
                .collect()
        })
    }

    /// Reconciles the AuthzStore of this name.
    pub(crate) async fn reconcile_store(&self, name: &str) -> Result<(), Error> {
        self.seen(name).await
    }

    /// The reconcile of the AuthzStore of this name, as all is now: what changes before it is awaited it has not heard of.
    pub(crate) fn seen(&self, name: &str) -> impl Future<Output = Result<(), Error>> + use<> {
        let json = self
            .get("meridian.dev/v1alpha1", "AuthzStore", name)
            .unwrap();
        let store: AuthzStore = serde_json::from_value(json).unwrap();
        let context = self.context();
        async {
            reconcile::store::reconcile(store.into(), context.into())
                .await
                .map(|_| ())
        }
    }

    /// Reconciles the EdgeRegion of this name.
    pub(crate) async fn reconcile_edge(&self, name: &str) -> Result<(), Error> {
        let json = self
            .get("meridian.dev/v1alpha1", "EdgeRegion", name)
            .unwrap();
        let edge: EdgeRegion = serde_json::from_value(json).unwrap();
        reconcile::edge::reconcile(edge.into(), self.context().into())
            .await
            .map(|_| ())
    }

    /// What Kubernetes' controllers would do: Jobs succeed, workloads get their pods, and these are ready.
    pub(crate) fn run_workloads(&self) {
        let mut pods = Vec::new();
        self.server(|server| {
            for object in server.objects.values_mut() {
                let kind = object["kind"].as_str().unwrap_or_default().to_owned();
                match kind.as_str() {
                    "Job" if object["status"].is_null() => {
                        object["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
                    }
                    "Deployment" | "StatefulSet" => {
                        let replicas = object["spec"]["replicas"].clone();
                        object["status"] = json!({
                            "observedGeneration": object["metadata"]["generation"],
                            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
                        });
                        pods.push(pod_of(object));
                    }
                    _ => {}
                }
            }
        });
        for pod in pods {
            self.put(pod);
        }
    }

    pub(crate) fn context(&self) -> Context {
        let (client, caches) = (self.client(), self.caches());
        Context {
            nodes: self.nodes.clone(),
            settings: settings(),
            rivals: Rivals::new([&caches]).into(),
            caches,
            leadership: Leadership::always(),
            events: Events::new(client.clone(), "test"),
            client,
        }
    }

    pub(crate) fn client(&self) -> Client {
        let server = Arc::clone(&self.server);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                let answer = server.lock().unwrap().answer(&parts, body);
                let Some((code, answer)) = answer else {
                    return std::future::pending().await;
                };
                let response = Response::builder()
                    .status(StatusCode::from_u16(code).unwrap())
                    .body(Body::from(answer.to_string().into_bytes()))
                    .unwrap();
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response)
            }
        });
        Client::new(service, NAMESPACE)
    }

    /// What watches of all there is would have seen.
    pub(crate) fn caches(&self) -> Caches {
        let objects: Vec<Value> = self.server(|server| server.objects.values().cloned().collect());
        Caches {
            stores: cached(of_kind(&objects, "AuthzStore", None), ()),
            edges: cached(of_kind(&objects, "EdgeRegion", None), ()),
            of_stores: children(&objects, false),
            of_edges: children(&objects, true),
        }
    }
}

fn children(objects: &[Value], of_edges: bool) -> Children {
    let of_kind = |kind: &str| of_kind(objects, kind, Some(of_edges));
    Children {
        objects: Kind::ALL
            .iter()
            .map(|kind| {
                let resource = kind.resource();
                let found: Vec<DynamicObject> = of_kind(&format!("{kind:?}"))
                    .into_iter()
                    .map(|mut value| {
                        // As the elements of a list come.
                        let object = value.as_object_mut().unwrap();
                        object.retain(|key, _| !matches!(key.as_str(), "apiVersion" | "kind"));
                        serde_json::from_value(value).unwrap()
                    })
                    .collect();
                let mut writer = reflector::store::Writer::new(resource);
                let reader = writer.as_reader();
                fill(&mut writer, found);
                (*kind, reader)
            })
            .collect(),
        pods: cached::<Pod>(of_kind("Pod"), ()),
    }
}

fn of_kind(objects: &[Value], kind: &str, of_edges: Option<bool>) -> Vec<Value> {
    let is_of = |object: &&Value| {
        let label = object["metadata"]["labels"].get(EDGE_REGION).is_some();
        object["kind"] == kind && of_edges.is_none_or(|of_edges| label == of_edges)
    };
    objects.iter().filter(is_of).cloned().collect()
}

fn cached<K>(objects: Vec<Value>, kind: K::DynamicType) -> reflector::Store<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    let mut writer = reflector::store::Writer::<K>::new(kind);
    let reader = writer.as_reader();
    let objects = objects
        .into_iter()
        .map(|of| serde_json::from_value(of).unwrap());
    fill(&mut writer, objects.collect());
    reader
}

/// A cache outlives what fills it.
fn fill<K>(writer: &mut reflector::store::Writer<K>, objects: Vec<K>)
where
    K: kube::Resource + Clone + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
}

/// A ready pod of a workload. Central's are at 10.0.0.x, all others at 10.0.1.x.
pub(crate) fn pod_of(workload: &Value) -> Value {
    let labels = workload["spec"]["template"]["metadata"]["labels"].clone();
    let below = i32::from(labels["app.kubernetes.io/component"] != "central");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{}-0", workload["metadata"]["name"].as_str().unwrap()),
            "namespace": NAMESPACE,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": workload["apiVersion"], "kind": workload["kind"],
                "name": workload["metadata"]["name"], "uid": workload["metadata"]["uid"],
            }],
        },
        "status": {
            "phase": "Running",
            "podIP": format!("10.0.{below}.1"),
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "node", "image": "registry.example/meridian:1", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    })
}

/// Where an object is.
pub(crate) fn path(api: &str, kind: &str, name: &str) -> String {
    let plural = match kind {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let root = if api == "v1" {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{api}")
    };
    format!("{root}/namespaces/{NAMESPACE}/{plural}/{name}")
}
