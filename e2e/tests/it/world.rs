//! The model and the random data that the tests ask about.

use std::collections::HashSet;
use std::env;

use meridian_model::{AuthorizationModel, TupleKey, dsl};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Nested groups, a folder tree, wildcards, exclusion, intersection; and notes, which no edge holds.
const MODEL: &str = "
model
  schema 1.1

type user

type group
  relations
    define member: [user, user:*, group#member]

type folder
  relations
    define parent: [folder]
    define owner: [user]
    define viewer: [user, user:*, group#member] or owner or viewer from parent

type document
  relations
    define parent: [folder]
    define blocked: [user, group#member]
    define cleared: [user, group#member]
    define editor: [user, group#member] or owner from parent
    define viewer: [user, user:*, group#member] or editor or viewer from parent
    define can_read: viewer but not blocked
    define can_sign: editor and cleared

type note
  relations
    define about: [document]
    define author: [user]
    define can_read: author or can_read from about
";

/// Types whose every tuple is at the edge.
pub(crate) const CRITICAL: [&str; 4] = ["user", "group", "folder", "document"];

const USERS: usize = 400;
const GROUPS: usize = 120;
/// Groups hold groups of the next level down only, which keeps within OpenFGA's depth limit, but for one cycle.
const LEVELS: usize = 4;
const FOLDERS: usize = 300;
/// Folders in a folder.
const BRANCHES: usize = 4;
const DOCUMENTS: usize = 1500;
const NOTES: usize = 800;

pub(crate) fn model() -> AuthorizationModel {
    dsl::parse(MODEL).unwrap()
}

/// A generator with the seed in `MERIDIAN_TEST_SEED`, or a new one, which is printed.
pub(crate) fn random() -> StdRng {
    let seed = match env::var("MERIDIAN_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random(),
    };
    println!("MERIDIAN_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

pub(crate) fn tuple(object: &str, relation: &str, user: &str) -> TupleKey {
    TupleKey::parse(object, relation, user).unwrap()
}

/// So many tuples, each once, in random order of kinds.
pub(crate) fn tuples(count: usize, random: &mut StdRng) -> Vec<TupleKey> {
    let mut tuples = frame();
    let mut known: HashSet<TupleKey> = tuples.iter().cloned().collect();
    while tuples.len() < count {
        let next = leaf(random);
        if known.insert(next.clone()) {
            tuples.push(next);
        }
    }
    tuples
}

/// What the rest hangs on: the trees of groups and folders, and where each document and note stands.
fn frame() -> Vec<TupleKey> {
    let mut tuples = vec![tuple(&group(GROUPS - 1), "member", &members(0))];
    for at in 0..GROUPS - GROUPS / LEVELS {
        let below = (at / (GROUPS / LEVELS) + 1) * (GROUPS / LEVELS);
        for step in [at * 7, at * 11 + 3] {
            let child = below + step % (GROUPS / LEVELS);
            let next = tuple(&group(at), "member", &members(child));
            if !tuples.contains(&next) {
                tuples.push(next);
            }
        }
    }
    let parents = (1..FOLDERS).map(|at| tuple(&folder(at), "parent", &folder(at / BRANCHES)));
    tuples.extend(parents);
    tuples.extend((0..DOCUMENTS).map(|at| tuple(&document(at), "parent", &folder(at % FOLDERS))));
    tuples.extend((0..NOTES).map(|at| tuple(&note(at), "about", &document(at))));
    tuples
}

/// One random tuple that nothing hangs on.
pub(crate) fn leaf(random: &mut StdRng) -> TupleKey {
    let someone = match random.random_range(0..100) {
        0..70 => user(random.random_range(0..USERS)),
        _ => members(random.random_range(0..GROUPS)),
    };
    let one = user(random.random_range(0..USERS));
    let some_folder = folder(random.random_range(0..FOLDERS));
    let some_document = document(random.random_range(0..DOCUMENTS));
    match random.random_range(0..100) {
        0..20 => tuple(&group(random.random_range(0..GROUPS)), "member", &one),
        20..25 => tuple(&some_folder, "owner", &one),
        25..35 => tuple(&some_folder, "viewer", &someone),
        35 => tuple(&some_document, "viewer", "user:*"),
        36..60 => tuple(&some_document, "viewer", &someone),
        60..70 => tuple(&some_document, "editor", &someone),
        70..80 => tuple(&some_document, "blocked", &someone),
        80..90 => tuple(&some_document, "cleared", &someone),
        _ => tuple(&note(random.random_range(0..NOTES)), "author", &one),
    }
}

/// One random question; one in five is about a note.
pub(crate) fn question(random: &mut StdRng) -> TupleKey {
    let one = user(random.random_range(0..USERS));
    match random.random_range(0..100) {
        0..20 => {
            let relation = ["author", "can_read"].choose(random).unwrap();
            tuple(&note(random.random_range(0..NOTES)), relation, &one)
        }
        20..35 => tuple(&group(random.random_range(0..GROUPS)), "member", &one),
        35..50 => tuple(&folder(random.random_range(0..FOLDERS)), "viewer", &one),
        _ => {
            let relations = ["viewer", "editor", "can_read", "can_sign"];
            let relation = relations.choose(random).unwrap();
            tuple(&document(random.random_range(0..DOCUMENTS)), relation, &one)
        }
    }
}

pub(crate) fn is_covered(question: &TupleKey) -> bool {
    CRITICAL.contains(&question.object.object_type())
}

fn user(at: usize) -> String {
    format!("user:{at}")
}

fn group(at: usize) -> String {
    format!("group:{at}")
}

fn members(at: usize) -> String {
    format!("group:{at}#member")
}

fn folder(at: usize) -> String {
    format!("folder:{at}")
}

fn document(at: usize) -> String {
    format!("document:{at}")
}

fn note(at: usize) -> String {
    format!("note:{at}")
}
