//! Statements under construction.

use meridian_model::StoreId;
use sqlx::AssertSqlSafe;
use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;

use super::dialect::Dialect;
use super::whole;
use crate::flow::FlowId;
use crate::ports::FlowFilter;

/// A statement under construction. Text is only ever pushed from constants; everything else is bound.
pub(super) struct Statement {
    dialect: &'static Dialect,
    text: String,
    values: Vec<Value>,
}

pub(super) enum Value {
    Text(String),
    Number(i64),
    Real(f64),
}

impl Statement {
    pub(super) fn new(dialect: &'static Dialect, text: impl Into<String>) -> Self {
        Self {
            dialect,
            text: text.into(),
            values: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    fn bind(&mut self, value: Value) -> &mut Self {
        self.values.push(value);
        if self.dialect.is_numbered {
            self.text.push_str(&format!("${}", self.values.len()));
        } else {
            self.text.push('?');
        }
        self
    }

    pub(super) fn text(&mut self, value: impl Into<String>) -> &mut Self {
        self.bind(Value::Text(value.into()))
    }

    pub(super) fn number(&mut self, value: i64) -> &mut Self {
        self.bind(Value::Number(value))
    }

    pub(super) fn id(&mut self, id: FlowId) -> &mut Self {
        let dialect = self.dialect;
        self.push(dialect.id_before)
            .text(id.to_string())
            .push(dialect.id_after)
    }

    /// A number, or null.
    pub(super) fn some(&mut self, value: Option<Value>) -> &mut Self {
        match value {
            Some(value) => self.bind(value),
            None => self.push("NULL"),
        }
    }

    /// The flows of a store that are in a window and that a filter wants, whatever its times.
    pub(super) fn wanted(
        &mut self,
        store: StoreId,
        window: &Window,
        filter: &FlowFilter,
    ) -> &mut Self {
        self.push(" WHERE f.store_id = ").text(store.as_str());
        self.within("f.id", window);
        if let Some(client) = &filter.client_id {
            self.push(" AND f.client_id = ").text(client);
        }
        if let Some(user) = &filter.user {
            self.push(" AND (f.user_id = ").text(user);
            self.push(" OR f.subject = ").text(user).push(")");
        }
        if let Some(status) = filter.status {
            self.push(" AND f.status = ").number(status.number());
        }
        if let Some(kind) = filter.kind {
            self.push(" AND f.kind = ").number(kind.number());
        }
        if filter.step.is_some() || filter.error_code.is_some() {
            // No plan begins with all steps that there are, as one for EXISTS may: a count is found for each flow.
            self.push(" AND ((SELECT COUNT(*) FROM flow_steps s WHERE s.flow_id = f.id");
            if let Some(step) = &filter.step {
                self.push(" AND s.name = ").text(step);
            }
            if let Some(code) = &filter.error_code {
                self.push(" AND s.error_code = ").text(code);
            }
            let within = whole::part(filter.step.as_deref(), filter.error_code.as_deref());
            let place = self.dialect.place;
            self.push(&format!(") > 0 OR {place}(f.steps, "))
                .text(within);
            self.push(") > 0)");
        }
        self
    }

    /// A further condition: the ids of a column are in a window.
    pub(super) fn within(&mut self, column: &str, window: &Window) -> &mut Self {
        for (is, id) in [(">=", window.from), ("<", window.before)] {
            if let Some(id) = id {
                self.push(&format!(" AND {column} {is} ")).id(id);
            }
        }
        self
    }

    /// Behind a change of a table: of at most `limit` of its rows, the first in an order, that meet the condition which `which`
    /// pushes. Two at it at once change different ones.
    pub(super) fn some_rows(
        &mut self,
        (table, order): (&str, &str),
        limit: u32,
        which: impl FnOnce(&mut Self),
    ) -> &mut Self {
        let (before, after) = (self.dialect.some_rows)(table);
        which(self.push(&before));
        self.push(&format!(" ORDER BY {order} LIMIT {limit}{after}"))
    }

    pub(super) fn query(self) -> Query<'static, Any, AnyArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
                Value::Real(real) => query.bind(real),
            })
    }
}

/// A part of a store's flows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// It begins with this flow.
    pub(super) from: Option<FlowId>,
    /// It ends before this one.
    pub(super) before: Option<FlowId>,
}

impl Window {
    /// The time of a filter, as far as it is before a flow.
    pub(super) fn of(filter: &FlowFilter, before: Option<FlowId>) -> Self {
        let to = filter.to.map(FlowId::first_at);
        Self {
            from: filter.from.map(FlowId::first_at),
            before: to.into_iter().chain(before).min(),
        }
    }
}
