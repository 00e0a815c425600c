//! Random worlds and questions.

use std::collections::BTreeMap;

use meridian_model::AuthorizationModel;
use meridian_model::authorization_model::{
    Difference, Empty, Metadata, ObjectRelation, RelationMetadata, RelationReference,
    TupleToUserset, TypeDefinition, Userset, Usersets,
};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::conditions::{self, INLINE};
use super::world::{Bound, Call, Key, Question, Tuple, World};

const TYPES: [&str; 3] = ["group", "folder", "doc"];
const RELATIONS: [&str; 5] = ["a", "b", "c", "d", "parent"];
const IDS: [&str; 3] = ["1", "2", "3"];
const ALL_TYPES: [&str; 4] = ["user", "group", "folder", "doc"];

/// A model, most often a valid one, and tuples, most of which it allows.
pub(crate) fn world(random: &mut StdRng) -> World {
    let model = model(random);
    let count = random.random_range(8..40);
    let mut tuples: Vec<Tuple> = Vec::new();
    for _ in 0..count {
        let tuple = tuple(&model, random);
        let is_new = |other: &Tuple| {
            (&other.object, &other.relation, &other.user)
                != (&tuple.object, &tuple.relation, &tuple.user)
        };
        if tuples.iter().all(is_new) {
            tuples.push(tuple);
        }
    }
    let mut world = World {
        earlier: None,
        model,
        tuples,
    };
    if random.random_bool(0.25) {
        world.earlier = Some(world.model.clone());
        narrow(&mut world.model, random);
    }
    world
}

/// Takes restrictions away, so that some stored tuples do not count any more.
fn narrow(model: &mut AuthorizationModel, random: &mut StdRng) {
    for definition in &mut model.type_definitions {
        let metadata = definition.metadata.iter_mut();
        for relation in metadata.flat_map(|metadata| metadata.relations.values_mut()) {
            let restrictions = &mut relation.directly_related_user_types;
            if restrictions.len() > 1 && random.random_bool(0.4) {
                let at = random.random_range(0..restrictions.len());
                restrictions.remove(at);
            }
        }
    }
}

fn model(random: &mut StdRng) -> AuthorizationModel {
    let conditions = conditions::some(random);
    let mut names: Vec<String> = conditions.keys().cloned().collect();
    if random.random_bool(0.2) {
        names.push(INLINE.into());
    }
    let mut type_definitions = vec![TypeDefinition {
        name: "user".into(),
        ..TypeDefinition::default()
    }];
    for kind in TYPES {
        type_definitions.push(definition(kind, &names, random));
    }
    AuthorizationModel {
        schema_version: "1.1".into(),
        type_definitions,
        conditions,
    }
}

fn definition(kind: &str, conditions: &[String], random: &mut StdRng) -> TypeDefinition {
    let mut relations = BTreeMap::new();
    let mut metadata = Metadata::default();
    for (index, name) in RELATIONS.into_iter().enumerate() {
        let rewrite = match name {
            "a" | "parent" => Userset::This(Empty {}),
            _ => rewrite(index, 2, random),
        };
        let mut restrictions = match name {
            "parent" => parents(random),
            _ if has_this(&rewrite) => restrictions(random),
            _ => Vec::new(),
        };
        bind(&mut restrictions, conditions, random);
        let relation = RelationMetadata {
            directly_related_user_types: restrictions,
            ..RelationMetadata::default()
        };
        metadata.relations.insert(name.into(), relation);
        relations.insert(name.into(), rewrite);
    }
    TypeDefinition {
        name: kind.into(),
        relations,
        metadata: Some(metadata),
    }
}

fn parents(random: &mut StdRng) -> Vec<RelationReference> {
    let count = random.random_range(1..=2);
    let kinds = TYPES.choose_multiple(random, count);
    kinds.map(|kind| reference(kind, None, false)).collect()
}

fn restrictions(random: &mut StdRng) -> Vec<RelationReference> {
    let mut restrictions = Vec::new();
    if random.random_bool(0.8) {
        restrictions.push(reference("user", None, false));
    }
    if random.random_bool(0.25) {
        restrictions.push(reference("user", None, true));
    }
    if random.random_bool(0.1) {
        let kind = TYPES.choose(random).unwrap();
        let wildcard = random.random_bool(0.4);
        restrictions.push(reference(kind, None, wildcard));
    }
    for _ in 0..random.random_range(0..3) {
        let kind = TYPES.choose(random).unwrap();
        let relation = RELATIONS[random.random_range(0..4)];
        let userset = reference(kind, Some(relation), false);
        if !restrictions.contains(&userset) {
            restrictions.push(userset);
        }
    }
    if restrictions.is_empty() {
        restrictions.push(reference("user", None, false));
    }
    restrictions
}

/// Binds some restrictions to conditions: instead, or besides.
fn bind(restrictions: &mut Vec<RelationReference>, conditions: &[String], random: &mut StdRng) {
    for at in 0..restrictions.len() {
        let Some(condition) = conditions.choose(random) else {
            continue;
        };
        let bound = RelationReference {
            condition: condition.clone(),
            ..restrictions[at].clone()
        };
        match random.random_range(0..8) {
            0 => restrictions[at] = bound,
            1 => restrictions.push(bound),
            _ => {}
        }
    }
}

/// Computed relations refer to earlier ones, for most models in which they do not are refused.
fn rewrite(index: usize, depth: usize, random: &mut StdRng) -> Userset {
    let children = |random: &mut StdRng| Usersets {
        child: (0..random.random_range(2..4))
            .map(|_| rewrite(index, depth - 1, random))
            .collect(),
    };
    match random.random_range(0..if depth == 0 { 5 } else { 10 }) {
        0 | 1 => Userset::This(Empty {}),
        2 => {
            let any = random.random_bool(0.03);
            let below = if any { 4 } else { index };
            Userset::ComputedUserset(relation(RELATIONS[random.random_range(0..below)]))
        }
        3 | 4 => Userset::TupleToUserset(TupleToUserset {
            tupleset: relation("parent"),
            computed_userset: relation(RELATIONS[random.random_range(0..4)]),
        }),
        5..=7 => Userset::Union(children(random)),
        8 => Userset::Intersection(children(random)),
        _ => Userset::Difference(Box::new(Difference {
            base: rewrite(index, depth - 1, random),
            subtract: rewrite(index, depth - 1, random),
        })),
    }
}

/// Mostly a tuple that the model allows.
fn tuple(model: &AuthorizationModel, random: &mut StdRng) -> Tuple {
    let kind = *TYPES.choose(random).unwrap();
    let definition = model.type_definitions.iter().find(|d| d.name == kind);
    let metadata = definition.and_then(|definition| definition.metadata.as_ref());
    let direct: Vec<_> = metadata
        .into_iter()
        .flat_map(|metadata| &metadata.relations)
        .filter(|(_, relation)| !relation.directly_related_user_types.is_empty())
        .collect();
    let (name, relation) = direct.choose(random).unwrap();
    let restriction = relation.directly_related_user_types.choose(random).unwrap();
    let id = |random: &mut StdRng| *IDS.choose(random).unwrap();
    let mut user = match (&restriction.relation, &restriction.wildcard) {
        (Some(of), _) => format!("{}:{}#{of}", restriction.type_name, id(random)),
        (None, Some(_)) => format!("{}:*", restriction.type_name),
        // Few users, so that many questions are about one who has tuples.
        (None, None) if restriction.type_name == "user" => user(random),
        (None, None) => format!("{}:{}", restriction.type_name, id(random)),
    };
    let mut condition =
        (!restriction.condition.is_empty()).then(|| bound(&restriction.condition, random));
    if random.random_bool(0.04) {
        user = any_user(random);
    }
    if random.random_bool(0.03) {
        let names: Vec<_> = model.conditions.keys().collect();
        condition = names.choose(random).map(|name| bound(name, random));
    }
    Tuple {
        object: format!("{kind}:{}", id(random)),
        relation: (*name).clone(),
        user,
        condition,
    }
}

fn bound(name: &str, random: &mut StdRng) -> Bound {
    Bound {
        name: name.into(),
        context: conditions::tuple_context(name, random),
    }
}

/// A question about a world.
pub(crate) fn question(world: &World, random: &mut StdRng) -> Question {
    let call = call(world, random);
    let contextual = match random.random_range(0..10) {
        0..7 => 0,
        7 | 8 => 1,
        _ => 3,
    };
    let mut tuples: Vec<Tuple> = Vec::new();
    for _ in 0..contextual {
        tuples.push(tuple(&world.model, random));
    }
    Question {
        call,
        contextual: tuples,
        context: conditions::request_context(random),
    }
}

/// Assertions, most of which the model allows.
pub(crate) fn assertions(world: &World, random: &mut StdRng) -> Question {
    let mut expected = Vec::new();
    for _ in 0..random.random_range(0..4) {
        expected.push((key(world, random), random.random_bool(0.5)));
    }
    Question {
        call: Call::WriteAssertions(expected),
        ..question(world, random)
    }
}

fn call(world: &World, random: &mut StdRng) -> Call {
    let object = object(random);
    let relation = *RELATIONS.choose(random).unwrap();
    match random.random_range(0..100) {
        0..45 => Call::Check(key(world, random)),
        45..55 => {
            let count = random.random_range(2..6);
            Call::BatchCheck((0..count).map(|_| key(world, random)).collect())
        }
        55..62 => Call::Expand {
            object,
            relation: relation.into(),
        },
        62..80 => Call::ListObjects {
            kind: (*TYPES.choose(random).unwrap()).into(),
            relation: relation.into(),
            user: any_user(random),
            streamed: random.random_bool(0.3),
        },
        _ => Call::ListUsers {
            object,
            relation: relation.into(),
            filter: filter(random),
        },
    }
}

/// Mostly something that the world has a tuple near to.
fn key(world: &World, random: &mut StdRng) -> Key {
    let user = match world.tuples.choose(random) {
        Some(tuple) if random.random_bool(0.2) => tuple.user.clone(),
        _ => any_user(random),
    };
    Key {
        object: object(random),
        relation: (*RELATIONS.choose(random).unwrap()).into(),
        user,
    }
}

fn object(random: &mut StdRng) -> String {
    format!(
        "{}:{}",
        TYPES.choose(random).unwrap(),
        IDS.choose(random).unwrap()
    )
}

fn user(random: &mut StdRng) -> String {
    format!("user:{}", IDS[random.random_range(0..2)])
}

fn any_user(random: &mut StdRng) -> String {
    match random.random_range(0..20) {
        0 => "user:*".into(),
        1 => format!("{}:*", TYPES.choose(random).unwrap()),
        2..6 => format!(
            "{}#{}",
            object(random),
            RELATIONS[random.random_range(0..4)]
        ),
        6 | 7 => object(random),
        _ => user(random),
    }
}

fn filter(random: &mut StdRng) -> String {
    match random.random_range(0..10) {
        0 | 1 => format!(
            "{}#{}",
            TYPES.choose(random).unwrap(),
            RELATIONS[random.random_range(0..4)]
        ),
        2 => (*ALL_TYPES.choose(random).unwrap()).into(),
        _ => "user".into(),
    }
}

pub(crate) fn has_this(rewrite: &Userset) -> bool {
    match rewrite {
        Userset::This(_) => true,
        Userset::ComputedUserset(_) | Userset::TupleToUserset(_) => false,
        Userset::Union(of) | Userset::Intersection(of) => of.child.iter().any(has_this),
        Userset::Difference(of) => has_this(&of.base) || has_this(&of.subtract),
    }
}

fn relation(name: &str) -> ObjectRelation {
    ObjectRelation {
        object: String::new(),
        relation: name.into(),
    }
}

fn reference(kind: &str, relation: Option<&str>, wildcard: bool) -> RelationReference {
    RelationReference {
        type_name: kind.into(),
        relation: relation.map(Into::into),
        wildcard: wildcard.then_some(Empty {}),
        condition: String::new(),
    }
}
