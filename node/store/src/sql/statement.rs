//! A statement under construction: text with numbered placeholders, and the values they stand for.

use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;

use super::dialect::{Dialect, Tables};

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

/// Which side of a row others stand on.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Behind,
    UpTo,
}

/// A table of values: rows of numbers, which may be written out, and texts, which are bound.
pub(crate) struct Table<'a> {
    pub(crate) name: &'static str,
    /// The columns, those of numbers first.
    pub(crate) columns: &'static str,
    pub(crate) rows: &'a [TableRow<'a>],
}

/// The numbers and the texts of a row.
#[derive(Serialize)]
pub(crate) struct TableRow<'a>(pub(crate) Vec<usize>, pub(crate) Vec<&'a str>);

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

    /// Adds rows to be inserted, each with as many values of the same kinds.
    pub(crate) fn rows(&mut self, dialect: &Dialect, rows: &[Vec<Value>]) -> &mut Self {
        if dialect.tables != Tables::Arrays {
            return self
                .push("VALUES ")
                .tuples(rows.iter().map(|row| row.iter().cloned()));
        }
        self.push("SELECT * FROM unnest(");
        let mut separator = "CAST(";
        for column in 0..rows.first().map_or(0, Vec::len) {
            let (array, kind) = array(rows.iter().filter_map(|row| row.get(column)));
            self.push(separator).bind(array).push(kind);
            separator = ", CAST(";
        }
        self.push(")")
    }

    /// Adds that the row of `columns` stands on that side of another in the order of rows.
    pub(crate) fn row_range<V: Into<Value>>(
        &mut self,
        dialect: &Dialect,
        columns: &str,
        side: Side,
        row: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        let (inner, last) = match side {
            Side::Behind => (">", ">"),
            Side::UpTo => ("<", "<="),
        };
        if dialect.has_row_ranges {
            self.push(&format!("({columns}) {last} ")).tuple(row);
            return self;
        }
        let first = self.values.len() + 1;
        self.values.extend(row.into_iter().map(Into::into));
        let columns: Vec<_> = columns.split(", ").collect();
        let mut equal = String::new();
        let mut branches = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let value = first + index;
            let operator = if index + 1 == columns.len() {
                last
            } else {
                inner
            };
            branches.push(format!("{equal}{column} {operator} ${value}"));
            equal.push_str(&format!("{column} = ${value} AND "));
        }
        self.push(&format!("({})", branches.join(" OR ")))
    }

    /// Adds a named table of values, as one of those between `WITH` and `SELECT`.
    ///
    /// # Errors
    /// When the values cannot be said in JSON, which texts and numbers can.
    pub(crate) fn table(
        &mut self,
        dialect: &Dialect,
        table: &Table<'_>,
    ) -> serde_json::Result<&mut Self> {
        let Table {
            name,
            columns,
            rows,
        } = *table;
        if dialect.tables == Tables::Json {
            let json = serde_json::to_string(rows)?;
            let numbers = rows.first().map_or(0, |TableRow(numbers, _)| numbers.len());
            let columns: Vec<_> = columns
                .split(", ")
                .enumerate()
                .map(|(index, column)| match index.checked_sub(numbers) {
                    None => format!("{column} BIGINT PATH '$[0][{index}]'"),
                    Some(text) => format!("{column} VARBINARY(512) PATH '$[1][{text}]'"),
                })
                .collect();
            self.push(&format!("{name} AS (SELECT * FROM JSON_TABLE("))
                .bind(json)
                .push(&format!(
                    ", '$[*]' COLUMNS ({})) AS listed)",
                    columns.join(", ")
                ));
            return Ok(self);
        }
        self.push(&format!("{name} ({columns}) AS (VALUES "));
        let mut separator = "(";
        for TableRow(numbers, texts) in rows {
            self.push(separator);
            for number in numbers {
                self.push(&format!("{number}, "));
            }
            self.list(texts.iter().copied());
            separator = "), (";
        }
        Ok(self.push("))"))
    }

    /// The beginning of the text, for logs.
    pub(crate) fn name(&self) -> String {
        self.text.chars().take(60).collect()
    }

    /// How many values are bound.
    pub(crate) fn values(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn into_query(self, dialect: &Dialect) -> Query<'static, Any, AnyArguments> {
        let Self { text, values } = if dialect.has_numbered_placeholders {
            self
        } else {
            self.in_order()
        };
        values.into_iter().fold(
            sqlx::query(AssertSqlSafe(text)),
            |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            },
        )
    }

    /// The statement with a `?` for each placeholder, and the values in the order of these. A `$` without a number is no
    /// placeholder.
    fn in_order(self) -> Self {
        let mut parts = self.text.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        let mut values = Vec::with_capacity(self.values.len());
        for part in parts {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = part.split_at(digits);
            let index = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            match index.and_then(|index| self.values.get(index)) {
                Some(value) => {
                    values.push(value.clone());
                    text.push('?');
                    text.push_str(rest);
                }
                None => {
                    text.push('$');
                    text.push_str(part);
                }
            }
        }
        Self { text, values }
    }
}

/// Values as PostgreSQL writes an array, and what makes one of that text.
fn array<'a>(values: impl Iterator<Item = &'a Value>) -> (String, &'static str) {
    let mut array = String::from("{");
    let mut kind = " AS TEXT[])";
    for value in values {
        if array.len() > 1 {
            array.push(',');
        }
        match value {
            Value::Text(Some(text)) => {
                array.push('"');
                for character in text.chars() {
                    if matches!(character, '"' | '\\') {
                        array.push('\\');
                    }
                    array.push(character);
                }
                array.push('"');
            }
            Value::Number(Some(number)) => array.push_str(&number.to_string()),
            Value::Text(None) | Value::Number(None) => array.push_str("NULL"),
        }
        if matches!(value, Value::Number(_)) {
            kind = " AS BIGINT[])";
        }
    }
    array.push('}');
    (array, kind)
}

#[cfg(test)]
impl Statement {
    /// The statement behind a prefix, as `EXPLAIN`.
    pub(crate) fn behind(mut self, prefix: &str) -> Self {
        self.text.insert_str(0, prefix);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::dialect::{MYSQL, POSTGRES};

    #[test]
    fn placeholders_that_are_not_numbered_have_their_values_in_order() {
        let statement = Statement::new("UPDATE t SET a = $2 WHERE b = $1 OR c = $2 OR d = '$[0]'")
            .with("one")
            .with("two")
            .in_order();
        assert_eq!(
            statement.text,
            "UPDATE t SET a = ? WHERE b = ? OR c = ? OR d = '$[0]'"
        );
        let texts: Vec<_> = statement
            .values
            .iter()
            .map(|value| match value {
                Value::Text(Some(text)) => text.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(texts, ["two", "one", "two"]);
    }

    #[test]
    fn a_range_of_rows_is_spelled_out_where_there_is_none() {
        let range = |dialect, side| {
            let mut statement = Statement::new("");
            statement.row_range(dialect, "a, b, c", side, ["1", "2", "3"]);
            statement.text
        };
        assert_eq!(range(&POSTGRES, Side::Behind), "(a, b, c) > ($1, $2, $3)");
        assert_eq!(
            range(&MYSQL, Side::Behind),
            "(a > $1 OR a = $1 AND b > $2 OR a = $1 AND b = $2 AND c > $3)"
        );
        assert_eq!(
            range(&MYSQL, Side::UpTo),
            "(a < $1 OR a = $1 AND b < $2 OR a = $1 AND b = $2 AND c <= $3)"
        );
    }
}
