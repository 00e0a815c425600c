//! A store made up from a seed: nested groups, a tree of folders, documents, exclusions; and questions about it.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use meridian_engine::View;
use meridian_model::change::{StoreInfo, StoredModel};
use meridian_model::ports::StoreHead;
use meridian_model::{ModelId, Position, StoreId, Tiers, Timestamp, Tuple, TupleKey, dsl};
use meridian_proto::openfga::v1;

/// The model.
pub const MODEL: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
type folder
  relations
    define parent: [folder]
    define owner: [user]
    define blocked: [user, group#member]
    define viewer: ([user, group#member] or owner or viewer from parent) but not blocked
type document
  relations
    define parent: [folder]
    define owner: [user]
    define banned: [user]
    define editor: [user, group#member] or owner
    define viewer: ([user, group#member] or editor or viewer from parent) but not banned
";
/// The types that have tuples.
pub const TYPES: [&str; 3] = ["group", "folder", "document"];
/// What is asked about, as often as it stands here.
const ASKED: [(&str, &str); 10] = [
    ("document", "viewer"),
    ("document", "viewer"),
    ("document", "viewer"),
    ("document", "viewer"),
    ("document", "viewer"),
    ("document", "editor"),
    ("document", "editor"),
    ("folder", "viewer"),
    ("folder", "viewer"),
    ("group", "member"),
];
/// Groups in a group, folders in a folder.
const FAN_OUT: usize = 5;

/// One store.
pub struct Data {
    /// Its metadata and model.
    pub head: StoreHead,
    /// Its tuples, each once.
    pub tuples: Vec<TupleKey>,
    size: usize,
    random: Random,
}

/// Has a user a relation to an object?
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// `type:id`.
    pub object: String,
    /// The relation.
    pub relation: &'static str,
    /// `type:id`.
    pub user: String,
}

impl Asked {
    /// As a Check asks it.
    #[must_use]
    pub fn key(&self) -> v1::CheckRequestTupleKey {
        v1::CheckRequestTupleKey {
            user: self.user.clone(),
            relation: self.relation.into(),
            object: self.object.clone(),
        }
    }
}

/// xorshift64*: the same store and questions in every process.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }
}

impl Data {
    /// A store of about `size` tuples, exactly that many when it is a multiple of 1,000.
    ///
    /// # Errors
    /// When the model or a tuple is not valid, which they are.
    pub fn of(size: usize) -> anyhow::Result<Self> {
        let store: StoreId = "01J000000000000000000BENCH".parse()?;
        let model = dsl::parse(MODEL)
            .map_err(|errors| anyhow::anyhow!("the benchmark's model: {errors:?}"))?;
        let id: ModelId = "01J000000000000000000M0DE1".parse()?;
        let head = StoreHead {
            info: StoreInfo {
                id: store,
                name: "bench".into(),
                created_at: Timestamp(0),
            },
            position: Position::new(1, 2),
            models: vec![StoredModel {
                id,
                model: model.into(),
            }],
            tiers: Tiers {
                critical: TYPES.map(str::to_owned).into(),
                ..Tiers::default()
            },
            deleted_at: None,
        };
        let mut data = Self {
            head,
            tuples: Vec::with_capacity(size),
            size,
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        data.fill()?;
        Ok(data)
    }

    /// How many objects of a type there are.
    fn count(&self, object_type: &str) -> usize {
        self.size
            / match object_type {
                "document" => 5,
                "user" => 10,
                "folder" => 20,
                _ => 100,
            }
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let mut known = HashSet::new();
        let [groups, folders, documents] = TYPES.map(|object_type| self.count(object_type));
        for child in 1..groups {
            self.add(
                &mut known,
                "group",
                child / FAN_OUT,
                "member",
                &format!("group:{child}#member"),
            )?;
        }
        for child in 1..folders {
            self.add(
                &mut known,
                "folder",
                child,
                "parent",
                &format!("folder:{}", child / FAN_OUT),
            )?;
        }
        for child in 0..documents {
            let folder = self.random.below(folders);
            self.add(
                &mut known,
                "document",
                child,
                "parent",
                &format!("folder:{folder}"),
            )?;
        }
        // Per mille of all tuples.
        for (share, object_type, relation, to_group) in [
            (200, "document", "owner", false),
            (50, "document", "editor", true),
            (50, "document", "editor", false),
            (50, "document", "viewer", true),
            (50, "document", "viewer", false),
            (20, "document", "banned", false),
            (40, "folder", "viewer", true),
            (20, "folder", "viewer", false),
            (20, "folder", "owner", false),
            (5, "folder", "blocked", true),
            (15, "folder", "blocked", false),
        ] {
            let wanted = self.tuples.len() + self.size * share / 1000;
            self.grants(&mut known, object_type, relation, to_group, wanted)?;
        }
        // The rest of them.
        self.grants(&mut known, "group", "member", false, self.size)
    }

    fn grants(
        &mut self,
        known: &mut HashSet<TupleKey>,
        object_type: &str,
        relation: &str,
        to_group: bool,
        wanted: usize,
    ) -> anyhow::Result<()> {
        let (objects, groups, users) = (
            self.count(object_type),
            self.count("group"),
            self.count("user"),
        );
        while self.tuples.len() < wanted {
            let object = self.random.below(objects);
            let subject = if to_group {
                format!("group:{}#member", self.random.below(groups))
            } else {
                format!("user:{}", self.random.below(users))
            };
            self.add(known, object_type, object, relation, &subject)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        known: &mut HashSet<TupleKey>,
        object_type: &str,
        object: usize,
        relation: &str,
        subject: &str,
    ) -> anyhow::Result<()> {
        let key = TupleKey::parse(&format!("{object_type}:{object}"), relation, subject)?;
        if known.insert(key.clone()) {
            self.tuples.push(key);
        }
        Ok(())
    }

    /// The tuples of a type, as upstream gives them.
    #[must_use]
    pub fn of_type(&self, object_type: &str) -> Vec<Tuple> {
        self.tuples
            .iter()
            .filter(|key| key.object.object_type() == object_type)
            .map(|key| Tuple {
                key: key.clone(),
                condition: None,
                timestamp: Timestamp(0),
            })
            .collect()
    }

    /// The whole store in one view.
    #[must_use]
    pub fn view(&self) -> View {
        let head = View::new(self.head.position).with_models(self.head.models.iter().cloned());
        TYPES.iter().fold(head, |view, name| {
            view.cover(name, self.tuples.iter().map(|key| (key.clone(), None)))
        })
    }

    /// Distinct questions: half about any user, half about one that some path of tuples leads to.
    ///
    /// # Errors
    /// None, as long as something is asked about.
    pub fn questions(&mut self, count: usize) -> anyhow::Result<Vec<Asked>> {
        let mut members: HashMap<String, Vec<String>> = HashMap::new();
        for key in &self.tuples {
            members
                .entry(key.object.to_string())
                .or_default()
                .push(key.subject.to_string());
        }
        let mut known = HashSet::new();
        let mut questions = Vec::with_capacity(count);
        while questions.len() < count {
            let (object_type, relation) = *ASKED
                .get(self.random.below(ASKED.len()))
                .context("nothing to ask about")?;
            let object = format!(
                "{object_type}:{}",
                self.random.below(self.count(object_type))
            );
            let user = if self.random.below(2) == 0 {
                format!("user:{}", self.random.below(self.count("user")))
            } else {
                let Some(user) = self.walk(&members, &object) else {
                    continue;
                };
                user
            };
            let asked = Asked {
                object,
                relation,
                user,
            };
            if known.insert(asked.clone()) {
                questions.push(asked);
            }
        }
        Ok(questions)
    }

    /// Follows random tuples from an object to a user.
    fn walk(&mut self, members: &HashMap<String, Vec<String>>, object: &str) -> Option<String> {
        let mut at = object.to_owned();
        loop {
            let subjects = members.get(&at)?;
            let subject = subjects.get(self.random.below(subjects.len()))?;
            if subject.starts_with("user:") {
                return Some(subject.clone());
            }
            at = subject.trim_end_matches("#member").to_owned();
        }
    }
}
