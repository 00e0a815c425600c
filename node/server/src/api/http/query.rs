//! Query parameters of the calls that are GETs. Of OpenFGA's calls unknown ones are ignored, as upstream, and so is `pageSize`; of
//! one that is given twice the last counts. Meridian's own refuse both: a filter that is misspelt would let everything through.

use axum::extract::Query as Pairs;
use http::Uri;
use meridian_model::Code;
use meridian_proto::google::Timestamp;

use crate::api::fields::InvalidFields;

pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Result<Self, InvalidFields> {
        Pairs::try_from_uri(uri)
            .map(|Pairs(pairs)| Self(pairs))
            .map_err(|why| invalid(format!("parsing the query string: {why}")))
    }

    /// Parameters of these names, each at most once.
    pub(super) fn among(uri: &Uri, names: &[&str]) -> Result<Self, InvalidFields> {
        let query = Self::of(uri)?;
        for (at, (name, _)) in query.0.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let names = names.join(", ");
                return Err(invalid(format!(
                    "there is no parameter '{name}': use {names}"
                )));
            }
            if query.0.iter().take(at).any(|(before, _)| before == name) {
                return Err(invalid(format!("parameter '{name}' is given twice")));
            }
        }
        Ok(query)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rfind(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A text; empty when it is not given.
    pub(super) fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// Whether it says `true`; not when it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, InvalidFields> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(invalid(format!("{name} is '{other}': use true or false"))),
        }
    }

    pub(super) fn continuation_token(&self) -> String {
        self.text("continuation_token")
    }

    pub(super) fn page_size(&self) -> Result<Option<i32>, InvalidFields> {
        let Some(value) = self.get("page_size") else {
            return Ok(None);
        };
        let size = value.parse().map(Some);
        size.map_err(|_| {
            invalid(format!(
                "parsing field \"page_size\": '{value}' is not a whole number"
            ))
        })
    }

    /// A time in RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, InvalidFields> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let time: Option<Timestamp> = value.parse().ok();
        time.map(Some).ok_or_else(|| {
            invalid(format!(
                "parsing field \"{name}\": '{value}' is not a time like 2026-01-31T12:00:00Z"
            ))
        })
    }
}

fn invalid(message: String) -> InvalidFields {
    InvalidFields {
        code: Code::ValidationError.name(),
        message,
    }
}
