//! What both servers are asked.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::http::Request;

/// One question to both. `{name}` in paths, headers and bodies stands for what each server calls it.
#[derive(Clone)]
pub(crate) struct Case {
    /// What it is about, where that is not plain from what is sent.
    pub(crate) about: &'static str,
    pub(crate) over: Over,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) expected: Expected,
    /// What to remember of the answers: a name, and where the value is (a JSON pointer).
    pub(crate) saves: Vec<(String, &'static str)>,
}

#[derive(Clone)]
pub(crate) enum Over {
    /// A call of the API, over the transports that are asked for.
    Call {
        method: &'static str,
        request: Value,
        transports: &'static [Transport],
    },
    /// Any bytes to any method over gRPC.
    Rpc { path: String, message: Vec<u8> },
    /// Whatever can be sent over HTTP.
    Http {
        method: String,
        path: String,
        body: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Grpc,
    Http,
}

/// How the answers compare. A reason is the first cell of a row of the table in `docs/compatibility.md`.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Same,
    /// Alike but for the words of the error.
    OtherWords {
        reason: &'static str,
    },
    /// Not alike; ours has this outcome: `404 store_id_not_found` or `grpc 5002`.
    Other {
        reason: &'static str,
        ours: &'static [&'static str],
    },
}

/// A call with a request in OpenFGA's JSON, over gRPC and over HTTP. Its store is `{store}` if it names none.
pub(crate) fn call(method: &'static str, request: Value) -> Case {
    let transports: &[_] = &[Transport::Grpc, Transport::Http];
    Case::new(Over::Call {
        method,
        request,
        transports,
    })
}

/// Bytes to a method, such as `/grpc.health.v1.Health/Check`; of the answer, the bytes count too.
pub(crate) fn rpc(path: &str, message: impl Into<Vec<u8>>) -> Case {
    Case::new(Over::Rpc {
        path: path.into(),
        message: message.into(),
    })
}

/// A request such as `GET /healthz`, without a body.
pub(crate) fn http(line: &str) -> Case {
    let (method, path) = line.split_once(' ').unwrap();
    Case::new(Over::Http {
        method: method.into(),
        path: path.into(),
        body: Vec::new(),
    })
}

impl Case {
    fn new(over: Over) -> Self {
        Self {
            about: "",
            over,
            headers: BTreeMap::new(),
            expected: Expected::Same,
            saves: Vec::new(),
        }
    }

    /// Says what it is about.
    pub(crate) fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Only over gRPC.
    pub(crate) fn grpc_only(self) -> Self {
        self.only(&[Transport::Grpc])
    }

    /// Only over HTTP.
    pub(crate) fn http_only(self) -> Self {
        self.only(&[Transport::Http])
    }

    fn only(mut self, only: &'static [Transport]) -> Self {
        if let Over::Call { transports, .. } = &mut self.over {
            *transports = only;
        }
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The bytes to send; of a request that is no [`call`].
    pub(crate) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Over::Http { body, .. } = &mut self.over {
            *body = bytes.into();
        }
        self
    }

    /// Remembers part of each server's answer, to be used as `{name}`.
    pub(crate) fn save(mut self, name: &str, pointer: &'static str) -> Self {
        self.saves.push((name.into(), pointer));
        self
    }

    /// The error's words differ on purpose, for the reason in a row of the table.
    pub(crate) fn other_words(mut self, reason: &'static str) -> Self {
        self.expected = Expected::OtherWords { reason };
        self
    }

    /// The answers differ on purpose, for the reason in a row of the table; ours has one of these outcomes (of HTTP, and
    /// of gRPC).
    pub(crate) fn other(mut self, reason: &'static str, ours: &'static [&'static str]) -> Self {
        self.expected = Expected::Other { reason, ours };
        self
    }

    /// The words that a report begins with.
    pub(crate) fn title(&self) -> String {
        match &self.over {
            Over::Call {
                method, request, ..
            } => format!("{method} {} {}", self.about, cut(&request.to_string())),
            Over::Rpc { path, message } => {
                format!(
                    "{path} {} {:?}",
                    self.about,
                    cut(&String::from_utf8_lossy(message))
                )
            }
            Over::Http { method, path, body } => {
                format!("{method} {path} {}", cut(&String::from_utf8_lossy(body)))
            }
        }
    }
}

fn cut(text: &str) -> String {
    const LENGTH: usize = 300;
    match text.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A call as HTTP: its route, what of the request goes into the path and the query, and the rest as the body.
pub(crate) fn route(method: &str, request: &Value) -> Request {
    let mut fields: Map<String, Value> = request.as_object().cloned().unwrap_or_default();
    let mut taken = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let store = |taken: &mut dyn FnMut(&str) -> String| format!("/stores/{}", taken("store_id"));
    let (verb, path) = match method {
        "CreateStore" => ("POST", "/stores".to_owned()),
        "ListStores" => ("GET", "/stores".to_owned()),
        "GetStore" => ("GET", store(&mut taken)),
        "UpdateStore" => ("PATCH", store(&mut taken)),
        "DeleteStore" => ("DELETE", store(&mut taken)),
        "ReadChanges" => ("GET", store(&mut taken) + "/changes"),
        "WriteAuthorizationModel" => ("POST", store(&mut taken) + "/authorization-models"),
        "ReadAuthorizationModels" => ("GET", store(&mut taken) + "/authorization-models"),
        "ReadAuthorizationModel" => (
            "GET",
            store(&mut taken) + "/authorization-models/" + &taken("id"),
        ),
        "WriteAssertions" | "ReadAssertions" => (
            if method == "WriteAssertions" {
                "PUT"
            } else {
                "GET"
            },
            store(&mut taken) + "/assertions/" + &taken("authorization_model_id"),
        ),
        "StreamedListObjects" => ("POST", store(&mut taken) + "/streamed-list-objects"),
        "Check" | "BatchCheck" | "Expand" | "ListObjects" | "ListUsers" | "Read" | "Write" => {
            ("POST", store(&mut taken) + "/" + &dashed(method))
        }
        other => panic!("no method {other}"),
    };
    let (query, body) = match verb {
        "GET" | "DELETE" => (query(&fields), Vec::new()),
        _ => (
            String::new(),
            Value::Object(fields).to_string().into_bytes(),
        ),
    };
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    Request {
        method: verb.into(),
        path: path + &query,
        headers: headers.into(),
        body,
    }
}

/// `ListObjects` as `list-objects`.
fn dashed(method: &str) -> String {
    let mut out = String::new();
    for char in method.chars() {
        if char.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(char.to_ascii_lowercase());
    }
    out
}

fn query(fields: &Map<String, Value>) -> String {
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().map_or(value.to_string(), str::to_owned);
            format!("{name}={}", percent_encoded(&value))
        })
        .collect();
    if pairs.is_empty() {
        return String::new();
    }
    format!("?{}", pairs.join("&"))
}

/// Leaves names in braces as they are: they are filled in later.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'{' | b'}' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The request with its store.
pub(crate) fn with_store(method: &str, request: &Value) -> Value {
    let mut request = request.clone();
    let has_store = !matches!(method, "CreateStore" | "ListStores");
    if has_store && let Value::Object(fields) = &mut request {
        fields.entry("store_id").or_insert(json!("{store}"));
    }
    request
}
