//! All that differs between the SQL engines.

use std::fmt::Write as _;
use std::time::Duration;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A flow's id.
    Id,
    Text,
    Number,
}

/// A column, by the same name in the JSON of its rows.
pub(super) type Column = (&'static str, Kind);

/// One engine's way of saying things.
pub(super) struct Dialect {
    /// What every new connection runs first.
    pub(super) on_connect: &'static str,
    /// Bounds the time of each statement from now on, and its waits for locks, by a time that is not zero.
    pub(super) limit: fn(Duration) -> String,
    /// Begins a transaction that writes.
    pub(super) begin: &'static str,
    /// Whether placeholders are numbered (`$1`); else each `?` is the next value.
    pub(super) is_numbered: bool,
    /// A placeholder as a flow's id.
    pub(super) id_before: &'static str,
    pub(super) id_after: &'static str,
    /// A column of flows' ids as text.
    pub(super) id_text: fn(column: &str) -> String,
    /// The type of a whole number in a cast.
    pub(super) number: &'static str,
    /// And of a real one.
    pub(super) real: &'static str,
    /// The function that tells where in a text another begins, by bytes or characters as they are: 0 for nowhere.
    pub(super) place: &'static str,
    /// Divides whole numbers.
    pub(super) divide: &'static str,
    /// Whether an update joins the rows that it goes by; else they are behind `FROM`.
    joins_in_update: bool,
    /// What is before and behind the condition, the order and the limit of a change of some rows of a table: it passes over
    /// those that somebody else is about to change, or waits for them.
    pub(super) some_rows: fn(table: &str) -> (String, &'static str),
    /// Ends an insert to keep a row that is there already.
    pub(super) or_keep: fn(table: &str, key: &str) -> String,
    /// Ends an insert to give a row that is there already what it lacks of some columns.
    pub(super) or_fill: fn(table: &str, key: &str, columns: &[&str]) -> String,
    /// Ends an insert of values to give a row that is there already its new ones of some columns.
    pub(super) or_set: fn(key: &str, columns: &[&str]) -> String,
    /// A table `r` of the JSON text that the one placeholder stands for.
    table: fn(&[Column]) -> String,
}

impl Dialect {
    /// That of a URL's scheme.
    pub(super) fn of(scheme: &str) -> Option<&'static Self> {
        match scheme {
            "sqlite" => Some(&SQLITE),
            "postgres" | "postgresql" => Some(&POSTGRES),
            "mysql" | "mariadb" => Some(&MYSQL),
            _ => None,
        }
    }

    pub(super) fn table(&self, columns: &[Column]) -> String {
        (self.table)(columns)
    }

    /// Sets columns of the flows that rows `r` name, and that meet a condition.
    pub(super) fn update_flows(
        &self,
        set: &[(&str, &str)],
        columns: &[Column],
        condition: &str,
    ) -> String {
        let table = self.table(columns);
        let set = |before: &str| {
            let set: Vec<_> = set
                .iter()
                .map(|(column, value)| format!("{before}{column} = {value}"))
                .collect();
            set.join(", ")
        };
        if self.joins_in_update {
            let set = set("flows.");
            format!("UPDATE flows JOIN {table} ON flows.id = r.id SET {set} WHERE {condition}")
        } else {
            let set = set("");
            format!("UPDATE flows SET {set} FROM {table} WHERE flows.id = r.id AND {condition}")
        }
    }
}

fn listed(columns: &[Column], each: impl Fn(&mut String, &Column)) -> String {
    let mut list = String::new();
    for column in columns {
        if !list.is_empty() {
            list.push_str(", ");
        }
        each(&mut list, column);
    }
    list
}

fn on_conflict(_table: &str, key: &str) -> String {
    // Without a condition SQLite would take what follows for one of the join.
    format!(" WHERE true ON CONFLICT ({key}) DO NOTHING")
}

/// What sets columns, each to `new` of it.
fn set(columns: &[&str], new: impl Fn(&str) -> String) -> String {
    let set: Vec<_> = columns
        .iter()
        .map(|column| format!("{column} = {}", new(column)))
        .collect();
    set.join(", ")
}

/// What fills columns of a table, each from `new` of it.
fn filled(table: &str, columns: &[&str], new: impl Fn(&str) -> String) -> String {
    set(columns, |column| {
        format!("COALESCE({table}.{column}, {})", new(column))
    })
}

fn on_conflict_fill(table: &str, key: &str, columns: &[&str]) -> String {
    let set = filled(table, columns, |column| format!("excluded.{column}"));
    format!(" WHERE true ON CONFLICT ({key}) DO UPDATE SET {set}")
}

fn on_conflict_set(key: &str, columns: &[&str]) -> String {
    let set = set(columns, |column| format!("excluded.{column}"));
    format!(" ON CONFLICT ({key}) DO UPDATE SET {set}")
}

static POSTGRES: Dialect = Dialect {
    on_connect: "SET statement_timeout = 30000",
    limit: |time| format!("SET statement_timeout = {}", time.as_millis()),
    begin: "BEGIN",
    is_numbered: true,
    id_before: "CAST(",
    id_after: " AS uuid)",
    id_text: |column| format!("CAST({column} AS text)"),
    number: "BIGINT",
    real: "DOUBLE PRECISION",
    place: "strpos",
    divide: "/",
    joins_in_update: false,
    // An array is made once; a plan could run a subquery again, and find other rows then.
    some_rows: |table| {
        let before = format!(" WHERE id = ANY (ARRAY(SELECT id FROM {table} WHERE ");
        (before, " FOR UPDATE SKIP LOCKED))")
    },
    or_keep: on_conflict,
    or_fill: on_conflict_fill,
    or_set: on_conflict_set,
    table: |columns| {
        let columns = listed(columns, |list, (name, kind)| {
            let kind = match kind {
                Kind::Id => "uuid",
                Kind::Text => "text",
                Kind::Number => "bigint",
            };
            let _ = write!(list, "{name} {kind}");
        });
        format!("json_to_recordset(CAST($1 AS json)) AS r({columns})")
    },
};

static SQLITE: Dialect = Dialect {
    on_connect: "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON",
    limit: |time| format!("PRAGMA busy_timeout = {}", time.as_millis()),
    begin: "BEGIN IMMEDIATE",
    is_numbered: true,
    id_before: "",
    id_after: "",
    id_text: str::to_owned,
    number: "BIGINT",
    real: "REAL",
    place: "instr",
    divide: "/",
    joins_in_update: false,
    some_rows: |table| (format!(" WHERE id IN (SELECT id FROM {table} WHERE "), ")"),
    or_keep: on_conflict,
    or_fill: on_conflict_fill,
    or_set: on_conflict_set,
    table: |columns| {
        let columns = listed(columns, |list, (name, _)| {
            let _ = write!(list, "value ->> '$.{name}' AS {name}");
        });
        format!("(SELECT {columns} FROM json_each($1)) AS r")
    },
};

static MYSQL: Dialect = Dialect {
    on_connect: "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                 SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    // MariaDB and MySQL name it differently, and each reads its own kind of comment. MySQL's bounds questions alone.
    limit: |time| {
        format!(
            "SET SESSION lock_wait_timeout = {0}, innodb_lock_wait_timeout = {0} \
             /*M! , max_statement_time = {1} */ /*!80000 , max_execution_time = {2} */",
            time.as_secs().max(1),
            time.as_secs_f64(),
            time.as_millis()
        )
    },
    begin: "START TRANSACTION",
    is_numbered: false,
    id_before: "",
    id_after: "",
    id_text: str::to_owned,
    number: "SIGNED",
    real: "DOUBLE",
    place: "instr",
    divide: "DIV",
    joins_in_update: true,
    some_rows: |_| (" WHERE ".to_owned(), ""),
    or_keep: |table, key| {
        let first = key.split(',').next().unwrap_or(key);
        format!(" ON DUPLICATE KEY UPDATE {first} = {table}.{first}")
    },
    or_fill: |table, _, columns| {
        let set = filled(table, columns, |column| format!("VALUES({column})"));
        format!(" ON DUPLICATE KEY UPDATE {set}")
    },
    or_set: |_, columns| {
        let set = set(columns, |column| format!("VALUES({column})"));
        format!(" ON DUPLICATE KEY UPDATE {set}")
    },
    table: |columns| {
        let columns = listed(columns, |list, (name, kind)| {
            let kind = match kind {
                Kind::Id => "VARCHAR(36)",
                Kind::Text => "MEDIUMTEXT CHARACTER SET utf8mb4",
                Kind::Number => "BIGINT",
            };
            let _ = write!(list, "{name} {kind} PATH '$.{name}'");
        });
        format!("JSON_TABLE(?, '$[*]' COLUMNS ({columns})) AS r")
    },
};
