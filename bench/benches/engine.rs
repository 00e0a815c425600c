//! The engine's parts, one by one: `cargo xtask bench engine` compares them with the committed figures.
//!
//! Figures of different machines differ; what counts is one part against the others.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run may panic")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use meridian_bench::data::{Data, MODEL};
use meridian_condition::{Condition, Context, ParameterType};
use meridian_engine::{Budget, Given, Limits, ListObjects, Question, Scratch, User, View};
use meridian_model::change::{Change, ChangeSet};
use meridian_model::hash::set_hash;
use meridian_model::{Timestamp, Tuple, TupleKey, dsl};

const TUPLES: usize = 20_000;
/// Questions that one measured run asks.
const QUESTIONS: usize = 1_000;

fn budget() -> Budget<'static> {
    Budget::of(Limits::default())
}

/// A thousand questions of all kinds to a store of 20,000 tuples.
fn check(criterion: &mut Criterion) {
    let mut data = Data::of(TUPLES).unwrap();
    let asked = data.questions(QUESTIONS).unwrap();
    let view = data.view();
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let context = Context::new();
    let mut scratch = Scratch::default();
    criterion.bench_function("check/1000 questions", |bencher| {
        bencher.iter(|| {
            for asked in &asked {
                let question = Question::parse(&asked.object, asked.relation, &asked.user).unwrap();
                let given = Given {
                    tuples: &[],
                    context: &context,
                };
                black_box(meridian_engine::check(
                    &view,
                    program,
                    &question,
                    given,
                    budget(),
                    &mut scratch,
                ));
            }
        });
    });
}

/// All folders that a user may view.
fn list(criterion: &mut Criterion) {
    let data = Data::of(TUPLES).unwrap();
    let view = data.view();
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let user = User::parse("user:7").unwrap();
    let context = Context::new();
    let mut scratch = Scratch::default();
    criterion.bench_function("list objects/folders of a user", |bencher| {
        bencher.iter(|| {
            let of = ("folder", "viewer");
            let mut found = 0_usize;
            let listing = ListObjects::new(&view, program, of, &user, &[], &mut scratch);
            listing.unwrap().go(
                &view,
                program,
                &user,
                &context,
                budget(),
                &mut scratch,
                &mut |_| {
                    found += 1;
                    true
                },
            );
            black_box(found)
        });
    });
}

/// A view takes in a change set of 100 tuples, and is filled with 20,000.
fn replication(criterion: &mut Criterion) {
    let data = Data::of(TUPLES).unwrap();
    let view = data.view();
    let position = data.head.position;
    let written = |number: usize| {
        let key = TupleKey::parse(&format!("document:{number}"), "owner", "user:new").unwrap();
        Change::TupleWritten(Tuple {
            key,
            condition: None,
            timestamp: Timestamp(0),
        })
    };
    let change_set = ChangeSet {
        store: data.head.info.id,
        epoch: position.epoch,
        revision: meridian_model::Revision(position.revision.0 + 1),
        committed_at: Timestamp(0),
        changes: (0..100).map(written).collect(),
        touched: Vec::new(),
    };
    criterion.bench_function("view/a change set of 100", |bencher| {
        bencher.iter(|| black_box(view.apply(&change_set)));
    });
    criterion.bench_function("view/filled with 20,000 tuples", |bencher| {
        bencher.iter_batched(|| (), |()| black_box(data.view()), BatchSize::PerIteration);
    });
    let file = view.to_file();
    criterion.bench_function("view/read from its file", |bencher| {
        bencher.iter(|| black_box(View::from_file(&file).unwrap()));
    });
}

/// What happens to words: models, conditions, tuples.
fn words(criterion: &mut Criterion) {
    criterion.bench_function("dsl/a model", |bencher| {
        bencher.iter(|| black_box(dsl::parse(MODEL).unwrap()));
    });
    criterion.bench_function("tuple/parsed and hashed", |bencher| {
        bencher.iter(|| {
            let key = TupleKey::parse("document:42", "viewer", "group:7#member").unwrap();
            black_box(set_hash(&key.object, &key.relation))
        });
    });
    let expression = "at < until && address.in_cidr(\"10.0.0.0/8\") && level in [1, 2, 3]";
    let parameters = || {
        [
            ("at", ParameterType::Timestamp),
            ("until", ParameterType::Timestamp),
            ("address", ParameterType::IpAddress),
            ("level", ParameterType::Int),
        ]
        .map(|(name, declared)| (name.to_owned(), declared))
    };
    criterion.bench_function("condition/compiled", |bencher| {
        bencher.iter(|| black_box(Condition::compile("c", expression, parameters()).unwrap()));
    });
    let condition = Condition::compile("c", expression, parameters()).unwrap();
    let context: Context = serde_json::from_value(serde_json::json!({
        "at": "2026-01-01T00:00:00Z",
        "until": "2027-01-01T00:00:00Z",
        "address": "10.1.2.3",
        "level": 2,
    }))
    .unwrap();
    criterion.bench_function("condition/evaluated", |bencher| {
        let none = Context::new();
        bencher.iter(|| {
            let asked = condition.cast(&context);
            black_box(condition.evaluate(&asked, &none, 1_000).outcome.unwrap())
        });
    });
}

criterion_group!(parts, check, list, replication, words);
criterion_main!(parts);
