//! What a server answered, and what of it can be compared.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde_json::{Map, Value};

/// The headers that are compared; others are the server's own affair.
const CHOSEN: [&str; 9] = [
    "allow",
    "content-encoding",
    "content-type",
    "grpc-encoding",
    "openfga-authorization-model-id",
    "openfga-store-id",
    "www-authenticate",
    "x-http-code",
    "x-request-id",
];

/// Lists whose order OpenFGA leaves open.
const SETS: [&str; 3] = ["objects", "results", "users"];
const TIMES: [&str; 4] = ["created_at", "timestamp", "updated_at", "deleted_at"];

/// An answer over either transport.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// `200` of HTTP, or `grpc 2000`.
    pub(crate) status: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Over gRPC, the message as the JSON of OpenFGA, or `{"message", "details"}` of an error.
    pub(crate) body: Value,
}

/// Those headers of an answer that are compared.
pub(crate) fn chosen(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        if CHOSEN.contains(&name) || name.starts_with("access-control-") {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            found.insert(name.to_owned(), value);
        }
    }
    found
}

impl Answer {
    /// Takes out what must differ between two servers. `names` are what this server calls things, by our name for them.
    pub(crate) fn normalize(&mut self, names: &BTreeMap<String, String>) {
        for (name, value) in &mut self.headers {
            *value = match name.as_str() {
                "x-request-id" => "<id>".to_owned(),
                _ => rename(value, names),
            };
        }
        normalize("", &mut self.body, names);
        if let Value::Array(lines) = &mut self.body {
            lines.sort_by_key(Value::to_string);
        }
    }

    /// What an error says.
    pub(crate) fn message(&self) -> Option<&str> {
        let error = self.body.get("error").unwrap_or(&self.body);
        error.get("message")?.as_str()
    }

    /// Without what errors say, within results too.
    pub(crate) fn without_words(&self) -> Self {
        let mut other = self.clone();
        drop_words(&mut other.body);
        other
    }

    /// The status, and the code of an error: `404 store_id_not_found`.
    pub(crate) fn outcome(&self) -> String {
        match self.body.get("code").and_then(Value::as_str) {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.clone(),
        }
    }
}

fn drop_words(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("message");
            object.values_mut().for_each(drop_words);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_words),
        _ => {}
    }
}

fn normalize(key: &str, value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::String(text) if key == "continuation_token" && !text.is_empty() => {
            *text = "<token>".to_owned();
        }
        Value::String(text) if TIMES.contains(&key) && text.ends_with('Z') => {
            *text = "<time>".to_owned();
        }
        Value::String(text) => *text = rename(text, names),
        Value::Array(values) => {
            for value in values.iter_mut() {
                normalize(key, value, names);
            }
            if SETS.contains(&key) {
                values.sort_by_key(Value::to_string);
            }
        }
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                normalize(key, value, names);
            }
            let renamed = std::mem::take(object).into_iter();
            *object = renamed
                .map(|(key, value)| (rename(&key, names), value))
                .collect::<Map<_, _>>();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Ids that have a name become it, others `<id>`.
fn rename(text: &str, names: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in names.iter().filter(|(_, value)| !value.is_empty()) {
        text = text.replace(value, &format!("{{{name}}}"));
    }
    without_ids(&text)
}

fn without_ids(text: &str) -> String {
    const LENGTH: usize = 26;
    let is_of_id = |char: char| char.is_ascii_digit() || char.is_ascii_uppercase();
    let mut out = String::new();
    let mut word = String::new();
    for char in text.chars().chain(['\0']) {
        if is_of_id(char) {
            word.push(char);
            continue;
        }
        let is_id = word.len() == LENGTH && word.starts_with("01");
        out.push_str(if is_id { "<id>" } else { &word });
        word.clear();
        out.push(char);
    }
    out.pop();
    out
}
