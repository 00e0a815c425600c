//! What a watcher wants, as its query says it.

use std::collections::BTreeSet;

use axum::extract::Query as Pairs;
use http::Uri;
use meridian_flow::{Flow, FlowKind};
use meridian_model::tuple::is_name;
use meridian_model::{Position, StoreId, Subject, TupleKey};

/// Types that one filter may name.
const MAX_TYPES: usize = 100;
/// Longest name of a type, in bytes.
const MAX_TYPE: usize = 254;

/// What a watcher wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) store: StoreId,
    pub(super) from: From,
    pub(super) decisions: bool,
    pub(super) filter: Filter,
}

/// From where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// From now on.
    Now,
    /// From the store's beginning.
    Start,
    /// Behind a position that it has had.
    After(Position),
}

/// Which of it; all that is empty lets everything through.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    types: BTreeSet<String>,
    user: Option<Subject>,
}

impl Asked {
    /// What a query asks for.
    ///
    /// # Errors
    /// What is wrong with it, and how it is right.
    pub(super) fn of(uri: &Uri) -> Result<Self, String> {
        let Pairs(pairs): Pairs<Vec<(String, String)>> =
            Pairs::try_from_uri(uri).map_err(|why| format!("parsing the query string: {why}"))?;
        let (mut store, mut from) = (None, From::Now);
        let (mut decisions, mut filter) = (false, Filter::default());
        for (name, value) in pairs {
            match name.as_str() {
                "store_id" => {
                    let id = value.parse::<StoreId>();
                    store = Some(id.map_err(|why| format!("store_id '{value}' {why}"))?);
                }
                "after" => from = after(&value)?,
                "decisions" => {
                    let wanted = value.parse::<bool>();
                    decisions = wanted
                        .map_err(|_| format!("decisions is '{value}': write true or false"))?;
                }
                "type" => filter.types = types(&value)?,
                "user" => {
                    let user = value.parse::<Subject>();
                    filter.user = Some(user.map_err(|why| format!("user is '{value}': {why}"))?);
                }
                _ => {
                    return Err(format!(
                        "'{name}' is no parameter of /watch: there are store_id, after, decisions, type and user"
                    ));
                }
            }
        }
        Ok(Self {
            store: store.ok_or("name a store: /watch?store_id=…")?,
            from,
            decisions,
            filter,
        })
    }
}

fn after(value: &str) -> Result<From, String> {
    if value == "start" {
        return Ok(From::Start);
    }
    value
        .parse::<Position>()
        .map(From::After)
        .map_err(|why| format!("after is '{value}', which {why}; or write start"))
}

fn types(value: &str) -> Result<BTreeSet<String>, String> {
    let types: BTreeSet<_> = value.split(',').map(str::to_owned).collect();
    if types.len() > MAX_TYPES {
        return Err(format!(
            "type names {} types: name at most {MAX_TYPES}",
            types.len()
        ));
    }
    match types.iter().find(|name| !is_name(name, MAX_TYPE)) {
        Some(wrong) => Err(format!(
            "type is '{value}', and '{wrong}' is no type: write names of types, comma-separated"
        )),
        None => Ok(types),
    }
}

impl Filter {
    /// Whether nothing is left out.
    pub(super) fn lets_all_through(&self) -> bool {
        self.types.is_empty() && self.user.is_none()
    }

    pub(super) fn lets_tuple_through(&self, key: &TupleKey) -> bool {
        (self.types.is_empty() || self.types.contains(key.object.object_type()))
            && self.user.as_ref().is_none_or(|user| *user == key.subject)
    }

    pub(super) fn lets_flow_through(&self, flow: &Flow) -> bool {
        if flow.kind != FlowKind::Decision || self.lets_all_through() {
            return flow.kind == FlowKind::Decision;
        }
        let Some(asked) = &flow.asked else {
            return false;
        };
        let (object_type, _) = asked
            .object
            .split_once(':')
            .unwrap_or((asked.object.as_str(), ""));
        (self.types.is_empty() || self.types.contains(object_type))
            && self
                .user
                .as_ref()
                .is_none_or(|user| user.to_string() == asked.subject)
    }
}

#[cfg(test)]
mod tests {
    use meridian_flow::Asked as Question;
    use meridian_model::Timestamp;

    use super::*;

    const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn asked(query: &str) -> Result<Asked, String> {
        Asked::of(&format!("/watch?{query}").parse().unwrap())
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let all = asked(&format!("store_id={STORE}")).unwrap();
        assert_eq!(all.store.as_str(), STORE);
        assert_eq!((all.from, all.decisions), (From::Now, false));
        assert!(all.filter.lets_all_through());
        let some = format!(
            "store_id={STORE}&after=2.40&decisions=true&type=document,folder&user=team:core%23member"
        );
        let some = asked(&some).unwrap();
        assert_eq!(some.from, From::After(Position::new(2, 40)));
        assert!(some.decisions);
        let key = |object, user| TupleKey::parse(object, "viewer", user).unwrap();
        for (object, user, passes) in [
            ("document:1", "team:core#member", true),
            ("folder:1", "team:core#member", true),
            ("repo:1", "team:core#member", false),
            ("document:1", "team:core", false),
        ] {
            let let_through = some.filter.lets_tuple_through(&key(object, user));
            assert_eq!(let_through, passes, "{object} {user}");
        }
        assert_eq!(
            asked(&format!("store_id={STORE}&after=start"))
                .unwrap()
                .from,
            From::Start
        );
    }

    #[test]
    fn decisions_are_filtered_by_the_type_and_the_user_that_were_asked_about() {
        let decision = |object: &str, subject: &str| Flow {
            asked: Some(Box::new(Question {
                object: object.into(),
                subject: subject.into(),
                ..Question::default()
            })),
            ..Flow::begun(STORE.parse().unwrap(), FlowKind::Decision, Timestamp(1))
        };
        let filter = asked(&format!("store_id={STORE}&type=document&user=user:anne"));
        let filter = filter.unwrap().filter;
        for (object, subject, passes) in [
            ("document:1", "user:anne", true),
            ("document", "user:anne", true),
            ("document:1", "user:beth", false),
            // A batch, whose checks have nothing in common, or the user alone.
            ("", "", false),
            ("", "user:anne", false),
        ] {
            let let_through = filter.lets_flow_through(&decision(object, subject));
            assert_eq!(let_through, passes, "{object} {subject}");
        }
        let login = Flow::begun(
            STORE.parse().unwrap(),
            FlowKind::Authentication,
            Timestamp(1),
        );
        assert!(!Filter::default().lets_flow_through(&login));
        assert!(Filter::default().lets_flow_through(&decision("", "")));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_remedy() {
        for (query, told) in [
            (String::new(), "name a store: /watch?store_id=…"),
            ("store_id=x".to_owned(), "store_id 'x' "),
            (
                format!("store_id={STORE}&after=yesterday"),
                "after is 'yesterday', which must be two whole numbers",
            ),
            (
                format!("store_id={STORE}&decisions=yes"),
                "decisions is 'yes': write true or false",
            ),
            (
                format!("store_id={STORE}&type=document,"),
                "type is 'document,', and '' is no type",
            ),
            (format!("store_id={STORE}&user=anne"), "user is 'anne': "),
            (
                format!("store_id={STORE}&types=document"),
                "'types' is no parameter of /watch",
            ),
        ] {
            let why = asked(&query).unwrap_err();
            assert!(why.starts_with(told), "{query}: {why}");
        }
        let many: Vec<_> = (0..=MAX_TYPES).map(|n| format!("t{n}")).collect();
        let why = asked(&format!("store_id={STORE}&type={}", many.join(",")));
        assert!(why.unwrap_err().contains("at most 100"));
    }
}
