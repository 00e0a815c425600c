//! Query parameters of the calls that are GETs. Unknown ones are ignored; both spellings of a field are taken.

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

    fn get(&self, names: &[&str]) -> Option<(&str, &str)> {
        self.0
            .iter()
            .find(|(name, _)| names.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A text; empty when it is not given.
    pub(super) fn text(&self, names: &[&str]) -> String {
        self.get(names)
            .map_or_else(String::new, |(_, value)| value.to_owned())
    }

    pub(super) fn continuation_token(&self) -> String {
        self.text(&["continuation_token", "continuationToken"])
    }

    pub(super) fn page_size(&self) -> Result<Option<i32>, InvalidFields> {
        let Some((name, value)) = self.get(&["page_size", "pageSize"]) else {
            return Ok(None);
        };
        let size = value.parse().map(Some);
        size.map_err(|_| {
            invalid(format!(
                "parsing field \"{name}\": '{value}' is not a whole number"
            ))
        })
    }

    /// A time in RFC 3339.
    pub(super) fn time(&self, names: &[&str]) -> Result<Option<Timestamp>, InvalidFields> {
        let Some((name, value)) = self.get(names) else {
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
