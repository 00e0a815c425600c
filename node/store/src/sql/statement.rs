//! A statement under construction: text with numbered placeholders, and the values they stand for.

use sqlx::AssertSqlSafe;
use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;

/// Rows of one statement, with up to 16 values each. All engines would take more values, but SQLite finds each placeholder
/// by walking all before it.
pub(crate) const ROWS_PER_STATEMENT: usize = 100;

/// A value of one of the two types that all engines and all our columns share.
#[derive(Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(Some(i64::from(number)))
    }
}

/// Text is only ever pushed from constants of this crate; everything else is bound.
pub(crate) struct Statement {
    text: String,
    values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            values: Vec::new(),
        }
    }

    /// Adds text.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a placeholder for a value.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    /// Gives the value of the next placeholder that the text already holds.
    pub(crate) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Adds `(a, b, ...)`.
    pub(crate) fn tuple<V: Into<Value>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        self.push("(").list(values).push(")")
    }

    /// Adds `a, b, ...`.
    pub(crate) fn list<V: Into<Value>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        let mut separator = "";
        for value in values {
            self.push(separator).bind(value);
            separator = ", ";
        }
        self
    }

    /// Adds `(a, b, ...), (c, d, ...)`.
    pub(crate) fn tuples<V: Into<Value>, R: IntoIterator<Item = V>>(
        &mut self,
        rows: impl IntoIterator<Item = R>,
    ) -> &mut Self {
        let mut separator = "";
        for row in rows {
            self.push(separator).tuple(row);
            separator = ", ";
        }
        self
    }

    /// The beginning of the text, for logs.
    pub(crate) fn name(&self) -> String {
        self.text.chars().take(60).collect()
    }

    /// How many values are bound.
    pub(crate) fn values(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn into_query(self) -> Query<'static, Any, AnyArguments> {
        self.values
            .into_iter()
            .fold(
                sqlx::query(AssertSqlSafe(self.text)),
                |query, value| match value {
                    Value::Text(text) => query.bind(text),
                    Value::Number(number) => query.bind(number),
                },
            )
    }
}

#[cfg(test)]
impl Statement {
    /// The statement behind a prefix, as `EXPLAIN`.
    pub(crate) fn behind(mut self, prefix: &str) -> Self {
        self.text.insert_str(0, prefix);
        self
    }
}
