//! One round of an evaluation or a listing: all that it reads in one statement.
//!
//! The reads are tables of values, each joined to the tuples by the index that finds its kind. A row of them begins with
//! the read's number, which comes back with each tuple found: two reads may find the same one.

use std::ops::DerefMut;
use std::sync::Arc;

use meridian_model::ids::StoreId;
use meridian_model::ports::{Read, Result};
use meridian_model::tuple::{Object, Subject, Tuple};
use sqlx::AnyConnection;

use super::dialect::Dialect;
use super::error::corrupt;
use super::pool::Session;
use super::rows::{TUPLE_COLUMNS, tuple, unsigned};
use super::statement::{Statement, Table, TableRow};

/// Reads of one statement, with 3 to 5 values each; see [`super::statement::ROWS_PER_STATEMENT`].
const READS_PER_STATEMENT: usize = 1000;

/// See [`meridian_model::ports::Snapshot::read`].
pub(super) async fn read<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    store: StoreId,
    reads: &[Read],
    limit: u32,
) -> Result<Option<Vec<Vec<Tuple>>>> {
    let mut answers = vec![Vec::new(); reads.len()];
    let mut left = u64::from(limit);
    for (chunk, answers) in reads
        .chunks(READS_PER_STATEMENT)
        .zip(answers.chunks_mut(READS_PER_STATEMENT))
    {
        let mut select = statement(db.dialect(), store, chunk)?;
        select.push(" LIMIT ").bind(left + 1);
        let rows = db.rows(select).await?;
        let Some(fewer) = left.checked_sub(rows.len() as u64) else {
            return Ok(None);
        };
        left = fewer;
        for row in &rows {
            let number = unsigned(row, "read_number")?;
            let answer = usize::try_from(number)
                .ok()
                .and_then(|number| answers.get_mut(number))
                .ok_or_else(|| corrupt("round", format!("no read has the number {number}")))?;
            answer.push(tuple(row)?);
        }
    }
    Ok(Some(answers))
}

/// The statement for all reads. An object may have a million direct users, so direct membership is looked up by the
/// whole primary key and usersets by an index that holds nothing else.
pub(super) fn statement(dialect: &Dialect, store: StoreId, reads: &[Read]) -> Result<Statement> {
    let sorted = Sorted::of(reads);
    let mut select = Statement::new("");
    tables(&mut select, dialect, &sorted).map_err(|source| corrupt("round", source))?;
    let mut branches = Branches {
        select: &mut select,
        dialect,
        store,
        separator: " ",
    };
    if !sorted.direct.is_empty() {
        branches
            .set("direct_set JOIN asked USING (asker)", dialect.by_key)
            .push(
                " AND t.user_type = s_user_type AND t.user_id = s_user_id AND t.user_relation = ''",
            );
        branches
            .set("direct_set", dialect.by_set_usersets)
            .push(" AND ")
            .push(dialect.is_userset);
    }
    if !sorted.parents.is_empty() {
        branches
            .set("parent_set", dialect.by_key)
            .push(" AND t.user_relation = '' AND t.user_id <> '*'");
    }
    if !sorted.members.is_empty() {
        branches.set("member_set", dialect.by_key);
    }
    if !sorted.objects.is_empty() {
        branches.branch("user_set", dialect.by_user).push(
            " AND t.user_type = s_user_type AND t.user_id = s_user_id AND t.user_relation = s_user_relation \
             AND t.object_type = s_type AND t.relation = s_relation",
        );
    }
    Ok(select)
}

/// All that is read, as tables; those without rows are left out.
fn tables(
    select: &mut Statement,
    dialect: &Dialect,
    sorted: &Sorted<'_>,
) -> serde_json::Result<()> {
    const SET: &str = "read_number, s_type, s_id, s_relation";
    const DIRECT: &str = "read_number, asker, s_type, s_id, s_relation";
    const USER: &str = "read_number, s_type, s_relation, s_user_type, s_user_id, s_user_relation";
    let asked = sorted.asked();
    let tables = [
        ("asked", "asker, s_user_type, s_user_id", &asked),
        ("direct_set", DIRECT, &sorted.direct),
        ("parent_set", SET, &sorted.parents),
        ("member_set", SET, &sorted.members),
        ("user_set", USER, &sorted.objects),
    ];
    let mut separator = "WITH ";
    for (name, columns, rows) in tables {
        if rows.is_empty() {
            continue;
        }
        let table = Table {
            name,
            columns,
            rows,
        };
        select.push(separator).table(dialect, &table)?;
        separator = ", ";
    }
    Ok(())
}

/// The reads of a statement by kind.
#[derive(Default)]
struct Sorted<'a> {
    users: Vec<&'a Subject>,
    direct: Vec<TableRow<'a>>,
    parents: Vec<TableRow<'a>>,
    members: Vec<TableRow<'a>>,
    objects: Vec<TableRow<'a>>,
}

impl<'a> Sorted<'a> {
    fn of(reads: &'a [Read]) -> Self {
        let mut sorted = Self::default();
        let set = |object: &'a Object, relation: &'a str| {
            vec![object.object_type(), object.id(), relation]
        };
        for (number, read) in reads.iter().enumerate() {
            match read {
                Read::Direct {
                    object,
                    relation,
                    user,
                } => {
                    let asker = sorted.asker(user);
                    let row = TableRow(vec![number, asker], set(object, relation));
                    sorted.direct.push(row);
                }
                Read::Parents { object, relation } => {
                    sorted
                        .parents
                        .push(TableRow(vec![number], set(object, relation)));
                }
                Read::Members { object, relation } => {
                    sorted
                        .members
                        .push(TableRow(vec![number], set(object, relation)));
                }
                Read::Objects {
                    subject,
                    object_type,
                    relation,
                } => {
                    let user = [subject.subject_type(), subject.id(), subject.relation()];
                    let row = [&[&**object_type, &**relation], user.as_slice()].concat();
                    sorted.objects.push(TableRow(vec![number], row));
                }
            }
        }
        sorted
    }

    /// The number of a user. Those of one question follow each other.
    fn asker(&mut self, user: &'a Arc<Subject>) -> usize {
        if self.users.last() != Some(&&**user) {
            self.users.push(user);
        }
        self.users.len()
    }

    /// Every user and its type's wildcard, as which it is a member too. Usersets are found otherwise.
    fn asked(&self) -> Vec<TableRow<'a>> {
        let numbered = (1..).zip(&self.users);
        numbered
            .flat_map(|(asker, user)| {
                let own = match user {
                    Subject::Object(object) => Some(object.id()),
                    Subject::Wildcard(_) | Subject::Userset(..) => None,
                };
                let ids = own.into_iter().chain(["*"]);
                ids.map(move |id| TableRow(vec![asker], vec![user.subject_type(), id]))
            })
            .collect()
    }
}

struct Branches<'a> {
    select: &'a mut Statement,
    dialect: &'a Dialect,
    store: StoreId,
    separator: &'static str,
}

impl Branches<'_> {
    /// The tuples of every set of `sets`.
    fn set(&mut self, sets: &str, index: &str) -> &mut Statement {
        self.branch(sets, index)
            .push(" AND t.object_type = s_type AND t.object_id = s_id AND t.relation = s_relation")
    }

    /// The store's tuples beside each row of a table.
    fn branch(&mut self, table: &str, index: &str) -> &mut Statement {
        let separator = std::mem::replace(&mut self.separator, " UNION ALL ");
        self.select
            .push(separator)
            .push("SELECT read_number, ")
            .push(TUPLE_COLUMNS)
            .push(" FROM ")
            .push(table)
            .push(self.dialect.join_in_order)
            .push("tuples AS t")
            .push(index)
            .push(" WHERE t.store_id = ")
            .bind(self.store.as_str())
    }
}
