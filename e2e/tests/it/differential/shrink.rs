//! Making a difference small.

use std::fmt::Write as _;

use meridian_model::AuthorizationModel;
use meridian_model::authorization_model::{Empty, Userset};

use super::Different;
use super::answers::Outcome;
use super::ask::{Asked, Stores};
use super::draw::has_this;
use super::verdict::{Verdict, verdict};
use super::world::{Call, Question, World};
use crate::side_by_side::Pair;

/// Enough for every part of a world to be left out twice.
const TRIES: usize = 1_500;

/// The smallest case found, in words, with how to repeat the whole.
pub(crate) async fn smallest(pair: &Pair, different: &Different) -> String {
    let (mut world, mut question) = (different.world.clone(), different.question.clone());
    let mut text = String::new();
    let Some(mut answers) = differ(pair, &world, &question).await else {
        let _ = writeln!(
            text,
            "--- differed once, and not again (world {}):",
            different.seed
        );
        let _ = writeln!(text, "{world}{question}");
        return text;
    };
    let mut tries = 0;
    'smaller: loop {
        for (smaller_world, smaller_question) in candidates(&world, &question) {
            tries += 1;
            if tries > TRIES {
                break 'smaller;
            }
            if let Some(still) = differ(pair, &smaller_world, &smaller_question).await
                && kinds(&still) == kinds(&answers)
            {
                (world, question, answers) = (smaller_world, smaller_question, still);
                continue 'smaller;
            }
        }
        break;
    }
    let _ = writeln!(text, "--- world {}, after {tries} tries:", different.seed);
    let _ = writeln!(text, "{world}{question}");
    for (server, answer) in pair.servers.iter().zip(&answers) {
        let _ = writeln!(text, "{:<10} {answer:?}", server.name);
    }
    text
}

/// A smaller case is to differ in the same way.
fn kinds(answers: &[Outcome; 2]) -> [String; 2] {
    [0, 1].map(|side| answers[side].kind())
}

/// The answers, if they differ.
async fn differ(pair: &Pair, world: &World, question: &Question) -> Option<[Outcome; 2]> {
    let mut world = world.clone();
    let stores = match Stores::make(pair, &mut world).await {
        Asked::Ready(stores, _) => stores,
        Asked::Refused(_) => return None,
        Asked::Different(other, said) => {
            let is_same = other.call.method() == question.call.method();
            return is_same.then_some(said);
        }
    };
    if matches!(question.call, Call::Write(_) | Call::WriteModel) {
        return None;
    }
    let answers = stores.ask(pair, question).await;
    let verdict = verdict(pair, &stores, &world, question, &answers).await;
    matches!(verdict, Verdict::Different).then_some(answers)
}

/// Everything with a part less, the largest parts first.
fn candidates(world: &World, question: &Question) -> Vec<(World, Question)> {
    let mut out = Vec::new();
    if world.earlier.is_some() {
        let earlier = None;
        out.push((
            World {
                earlier,
                ..world.clone()
            },
            question.clone(),
        ));
    }
    for size in [8, 4, 2, 1] {
        for start in (0..world.tuples.len()).step_by(size) {
            let mut smaller = world.clone();
            let end = (start + size).min(smaller.tuples.len());
            let kept = smaller.tuples.drain(start..end).collect::<Vec<_>>();
            let asked = |tuple| matches!(&question.call, Call::Write(of) if of == tuple);
            if !kept.iter().any(asked) {
                out.push((smaller, question.clone()));
            }
        }
    }
    out.extend(
        smaller_questions(question)
            .into_iter()
            .map(|smaller| (world.clone(), smaller)),
    );
    for model in smaller_models(&world.model) {
        out.push((
            World {
                model,
                ..world.clone()
            },
            question.clone(),
        ));
    }
    for model in world.earlier.iter().flat_map(smaller_models) {
        let earlier = Some(model);
        out.push((
            World {
                earlier,
                ..world.clone()
            },
            question.clone(),
        ));
    }
    for at in 0..world.tuples.len() {
        let mut smaller = world.clone();
        if smaller.tuples[at].condition.take().is_some() {
            out.push((smaller, question.clone()));
        }
    }
    out
}

fn smaller_questions(question: &Question) -> Vec<Question> {
    let mut out = Vec::new();
    for at in 0..question.contextual.len() {
        let mut smaller = question.clone();
        smaller.contextual.remove(at);
        out.push(smaller);
    }
    for name in question.context.keys() {
        let mut smaller = question.clone();
        smaller.context.remove(name);
        out.push(smaller);
    }
    if let Call::BatchCheck(keys) = &question.call {
        for key in keys {
            let call = Call::Check(key.clone());
            out.push(Question {
                call,
                ..question.clone()
            });
            let call = Call::BatchCheck(vec![key.clone()]);
            if keys.len() > 1 {
                out.push(Question {
                    call,
                    ..question.clone()
                });
            }
        }
    }
    if let Call::ListObjects { streamed: true, .. } = &question.call {
        let mut smaller = question.clone();
        if let Call::ListObjects { streamed, .. } = &mut smaller.call {
            *streamed = false;
        }
        out.push(smaller);
    }
    out
}

fn smaller_models(model: &AuthorizationModel) -> Vec<AuthorizationModel> {
    let mut out = Vec::new();
    for at in 0..model.type_definitions.len() {
        let mut smaller = model.clone();
        smaller.type_definitions.remove(at);
        out.push(smaller);
    }
    for name in model.conditions.keys() {
        let mut smaller = model.clone();
        smaller.conditions.remove(name);
        out.push(smaller);
    }
    for (at, definition) in model.type_definitions.iter().enumerate() {
        for (name, rewrite) in &definition.relations {
            let edit = |edit: &dyn Fn(&mut AuthorizationModel)| {
                let mut smaller = model.clone();
                edit(&mut smaller);
                smaller
            };
            out.push(edit(&|model| remove(model, at, name)));
            for simpler in simpler(rewrite) {
                out.push(edit(&|model| replace(model, at, name, simpler.clone())));
            }
            let metadata = definition.metadata.as_ref();
            let relation = metadata.and_then(|metadata| metadata.relations.get(name));
            for which in 0..relation.map_or(0, |of| of.directly_related_user_types.len()) {
                out.push(edit(&|model| {
                    let metadata = model.type_definitions[at].metadata.as_mut();
                    if let Some(of) = metadata.and_then(|metadata| metadata.relations.get_mut(name))
                    {
                        of.directly_related_user_types.remove(which);
                    }
                }));
            }
        }
    }
    out
}

fn remove(model: &mut AuthorizationModel, at: usize, name: &str) {
    let definition = &mut model.type_definitions[at];
    definition.relations.remove(name);
    if let Some(metadata) = &mut definition.metadata {
        metadata.relations.remove(name);
    }
}

/// A relation that is not direct any more has no restrictions.
fn replace(model: &mut AuthorizationModel, at: usize, name: &str, rewrite: Userset) {
    let definition = &mut model.type_definitions[at];
    if !has_this(&rewrite)
        && let Some(metadata) = &mut definition.metadata
        && let Some(relation) = metadata.relations.get_mut(name)
    {
        relation.directly_related_user_types.clear();
    }
    definition.relations.insert(name.into(), rewrite);
}

/// Parts of a rewrite, and it with one part less or simpler.
fn simpler(rewrite: &Userset) -> Vec<Userset> {
    let mut out = Vec::new();
    match rewrite {
        Userset::This(_) => {}
        Userset::ComputedUserset(_) | Userset::TupleToUserset(_) => {
            out.push(Userset::This(Empty {}));
        }
        Userset::Union(of) | Userset::Intersection(of) => {
            out.extend(of.child.iter().cloned());
            let with = |child| {
                let mut of = of.clone();
                of.child = child;
                match rewrite {
                    Userset::Union(_) => Userset::Union(of),
                    _ => Userset::Intersection(of),
                }
            };
            for at in 0..of.child.len() {
                if of.child.len() > 2 {
                    let mut child = of.child.clone();
                    child.remove(at);
                    out.push(with(child));
                }
                for simpler in simpler(&of.child[at]) {
                    let mut child = of.child.clone();
                    child[at] = simpler;
                    out.push(with(child));
                }
            }
        }
        Userset::Difference(of) => {
            out.extend([of.base.clone(), of.subtract.clone()]);
            for base in simpler(&of.base) {
                let mut of = of.clone();
                of.base = base;
                out.push(Userset::Difference(of));
            }
            for subtract in simpler(&of.subtract) {
                let mut of = of.clone();
                of.subtract = subtract;
                out.push(Userset::Difference(of));
            }
        }
    }
    out
}
