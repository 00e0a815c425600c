//! A series of cases that both servers are asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use meridian_model::dsl;
use serde_json::{Value, from_str, json, to_value};

use super::answer::Answer;
use super::case::{Case, Expected, Over, Transport, call, route, with_store};
use super::http::Request;
use super::pair::{Pair, Server};

const COMPATIBILITY: &str = include_str!("../../../../docs/compatibility.md");
const TABLE: &str = "## Differences on purpose";

/// Asks both, remembers what each calls things, and what differs.
pub(crate) struct Talk<'a> {
    pair: &'a Pair,
    /// What each server calls things, by our name for them.
    names: [BTreeMap<String, String>; 2],
    asked: usize,
    on_purpose: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(pair: &'a Pair) -> Self {
        Self {
            pair,
            names: Default::default(),
            asked: 0,
            on_purpose: BTreeMap::new(),
            differences: Vec::new(),
        }
    }

    /// As [`Talk::new`], with a new `{store}` on both that has a model in the modelling language as `{model}`.
    pub(crate) async fn with_model(pair: &'a Pair, model: &str) -> Self {
        let mut talk = Self::new(pair);
        talk.new_store().await;
        talk.write_model(model).await;
        talk
    }

    /// Writes a model in the modelling language to both, which is `{model}` from now on.
    pub(crate) async fn write_model(&mut self, model: &str) {
        let model = to_value(dsl::parse(model).unwrap()).unwrap();
        let case = call("WriteAuthorizationModel", model).grpc_only();
        self.ask(case.save("model", "/authorization_model_id"))
            .await;
    }

    /// Makes a store on both, which is `{store}` from now on.
    pub(crate) async fn new_store(&mut self) {
        let case = call("CreateStore", json!({"name": "side-by-side"})).grpc_only();
        self.ask(case.save("store", "/id")).await;
    }

    /// Writes tuples, each `object#relation@user`, to both.
    pub(crate) async fn write(&mut self, tuples: &[&str]) {
        let keys: Vec<_> = tuples.iter().map(|text| tuple(text)).collect();
        let request = json!({"writes": {"tuple_keys": keys}});
        self.ask(call("Write", request).grpc_only()).await;
    }

    /// Asks both; what differs fails the test in the end.
    pub(crate) async fn ask(&mut self, case: Case) {
        let transports: &[_] = match &case.over {
            Over::Call { transports, .. } => transports,
            Over::Rpc { .. } => &[Transport::Grpc],
            Over::Http { .. } => &[Transport::Http],
        };
        for transport in transports {
            let [ours, theirs] = [0, 1].map(|side| {
                let (server, names) = (&self.pair.servers[side], &self.names[side]);
                send(server, &case, *transport, names)
            });
            let (ours, theirs) = tokio::join!(ours, theirs);
            let mut answers = [ours, theirs];
            ours_alone(&mut answers);
            if let Some(reason) = model_header(&mut answers) {
                *self.on_purpose.entry(row(reason)).or_default() += 1;
            }
            for (names, answer) in self.names.iter_mut().zip(&mut answers) {
                let saved = save(&case, answer);
                names.extend(saved);
                answer.normalize(names);
            }
            self.asked += 1;
            self.compare(&case, *transport, &answers);
        }
    }

    fn compare(&mut self, case: &Case, transport: Transport, [ours, theirs]: &[Answer; 2]) {
        let is_other_words = ours.without_words() == theirs.without_words() && ours != theirs;
        let rule = if is_other_words {
            words_rule(ours, theirs)
        } else {
            None
        };
        let problem = match (&case.expected, rule) {
            (Expected::Same, Some(reason)) => {
                *self.on_purpose.entry(row(reason)).or_default() += 1;
                return;
            }
            (Expected::Same, None) if ours == theirs => return,
            (Expected::Same, None) => "differ",
            (Expected::OtherWords { reason }, _) => {
                *self.on_purpose.entry(row(reason)).or_default() += 1;
                if is_other_words {
                    return;
                }
                "do not differ in words alone"
            }
            (
                Expected::Other {
                    reason,
                    ours: outcomes,
                },
                _,
            ) => {
                *self.on_purpose.entry(row(reason)).or_default() += 1;
                if ours != theirs && outcomes.contains(&ours.outcome().as_str()) {
                    return;
                }
                "do not differ as they should"
            }
        };
        let mut text = format!("{} ({transport:?}): the answers {problem}\n", case.title());
        for (server, answer) in self.pair.servers.iter().zip([ours, theirs]) {
            let Answer {
                status,
                headers,
                body,
            } = answer;
            let _ = writeln!(text, "    {:<8} {status} {body}", server.name);
            if ours.headers != theirs.headers {
                let _ = writeln!(text, "             {headers:?}");
            }
        }
        self.differences.push(text);
    }

    /// Fails with all differences that have not been told of.
    pub(crate) fn end(self) {
        println!("{} answers compared", self.asked);
        for (reason, count) in &self.on_purpose {
            println!("{count} differ on purpose: {reason}");
        }
        assert!(
            self.differences.is_empty(),
            "{} differences\n{}",
            self.differences.len(),
            self.differences.join("\n")
        );
    }
}

/// Headers that ours has besides, and rows of the table tell of.
fn ours_alone([ours, theirs]: &mut [Answer; 2]) {
    for name in ["x-request-id", "allow", "access-control-allow-origin"] {
        if !theirs.headers.contains_key(name) {
            ours.headers.remove(name);
        }
    }
}

/// Theirs names the model on batches that are refused before one of ours is looked up.
fn model_header([ours, theirs]: &mut [Answer; 2]) -> Option<&'static str> {
    const MODEL: &str = "openfga-authorization-model-id";
    const REFUSED: [&str; 2] = ["batchCheck received ", "received duplicate correlation id"];
    let message = ours.message()?;
    let is_refused = REFUSED.iter().any(|refused| message.starts_with(refused));
    if !is_refused || ours.headers.contains_key(MODEL) {
        return None;
    }
    theirs.headers.remove(MODEL)?;
    Some(
        "`openfga-authorization-model-id` on a BatchCheck of too many checks, or with a correlation id twice",
    )
}

/// The row that explains why words differ, where a rule does: one of them says all that the other does, and more; or theirs
/// begin with the way to a field inside others.
fn words_rule(ours: &Answer, theirs: &Answer) -> Option<&'static str> {
    let (ours, theirs) = (ours.message()?, theirs.message()?);
    let says_more = has_more(ours, theirs) || has_more(theirs, ours);
    if says_more || topic(ours).is_some_and(|of| topic(theirs) == Some(of)) {
        return Some("Error messages");
    }
    if ours.starts_with("malformed JSON") {
        return Some("Malformed JSON, and queries that do not parse");
    }
    // Over HTTP, of several fields the last alone.
    let is_last = ours.ends_with(&format!("; {theirs}"));
    (ours == innermost(theirs) || is_last).then_some("Error messages of a field inside others")
}

/// Whether one message is the other with something put into it, or before or after it. One that says nothing is no such other.
fn has_more(long: &str, short: &str) -> bool {
    let pairs = || long.bytes().zip(short.bytes());
    let head = pairs().take_while(|(a, b)| a == b).count();
    let tail = long.bytes().rev().zip(short.bytes().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    !short.is_empty() && long.len() > short.len() && head + tail >= short.len()
}

/// What a message is about, of kinds whose reasons are in words of their own.
fn topic(message: &str) -> Option<(&str, &str)> {
    const KINDS: [(&str, char); 4] = [
        ("failed to convert context parameter '", '\''),
        ("failed to compile expression on condition '", '\''),
        ("undefined relation: ", ' '),
        // Of a tuple that is written in another way.
        (". Reason: ", '\n'),
    ];
    KINDS.into_iter().find_map(|(kind, end)| {
        let (_, rest) = message.split_once(kind)?;
        Some((kind, rest.split(end).next()?))
    })
}

/// `invalid A.B: embedded message failed validation | caused by: invalid C.D: …` without all but the last part; of each
/// of several errors.
fn innermost(message: &str) -> String {
    const INSIDE: &str = "embedded message failed validation | caused by: ";
    let parts: Vec<_> = message
        .split("; ")
        .map(|part| part.rsplit(INSIDE).next().unwrap_or(part))
        .collect();
    parts.join("; ")
}

/// `object#relation@user` as OpenFGA's JSON.
pub(crate) fn tuple(text: &str) -> Value {
    let (left, user) = text.split_once('@').unwrap();
    let (object, relation) = left.split_once('#').unwrap();
    json!({"object": object, "relation": relation, "user": user})
}

async fn send(
    server: &Server,
    case: &Case,
    transport: Transport,
    names: &BTreeMap<String, String>,
) -> Answer {
    let headers: BTreeMap<_, _> = case
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), fill(value, names)))
        .collect();
    let mut request = match (&case.over, transport) {
        (
            Over::Call {
                method, request, ..
            },
            Transport::Grpc,
        ) => {
            let request = fill(&with_store(method, request).to_string(), names);
            let request = from_str(&request).unwrap();
            return server.grpc.call(method, request, &headers).await;
        }
        (
            Over::Call {
                method, request, ..
            },
            Transport::Http,
        ) => route(method, &with_store(method, request)),
        (Over::Rpc { path, message }, _) => {
            return server.grpc.raw(path, message.clone(), &headers).await;
        }
        (Over::Http { method, path, body }, _) => Request {
            method: method.clone(),
            path: path.clone(),
            headers: BTreeMap::new(),
            body: body.clone(),
        },
    };
    request.headers.extend(headers);
    request.path = fill(&request.path, names);
    if let Ok(text) = std::str::from_utf8(&request.body) {
        request.body = fill(text, names).into_bytes();
    }
    server.http.send(request).await
}

fn fill(text: &str, names: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in names {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

fn save(case: &Case, answer: &Answer) -> Vec<(String, String)> {
    let saved = case.saves.iter().map(|(name, pointer)| {
        let value = answer.body.pointer(pointer).and_then(Value::as_str);
        let value = value.unwrap_or_else(|| panic!("no {pointer}: {}: {answer:?}", case.title()));
        (name.clone(), value.to_owned())
    });
    saved.collect()
}

/// Makes sure that a reason is a row of the table.
pub(crate) fn row(reason: &'static str) -> &'static str {
    let (_, table) = COMPATIBILITY.split_once(TABLE).unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let is_there = table
        .lines()
        .any(|line| line.starts_with(&format!("| {reason} |")));
    assert!(
        is_there,
        "no row '{reason}' in docs/compatibility.md, '{TABLE}'"
    );
    reason
}
