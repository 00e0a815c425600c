//! What the answers should be: the evaluator over all acknowledged tuples.

use std::collections::HashSet;

use meridian_engine::{Budget, Given, Limits, Outcome, Question, Scratch, View, check};
use meridian_model::change::StoredModel;
use meridian_model::{Change, ChangeSet, Epoch, Position, Revision, Timestamp, Tuple, TupleKey};

use crate::world;

const ANY_ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// One Write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) writes: Vec<TupleKey>,
    pub(crate) deletes: Vec<TupleKey>,
}

/// A store as it is at one revision.
#[derive(Clone)]
pub(crate) struct Oracle {
    view: View,
    tuples: HashSet<TupleKey>,
}

impl Oracle {
    /// A store of [`world::model`] with these tuples.
    pub(crate) fn new(tuples: &[TupleKey]) -> Self {
        let model = StoredModel {
            id: ANY_ID.parse().unwrap(),
            model: world::model().into(),
        };
        let mut view = View::new(Position::default()).with_models([model]);
        for object_type in world::CRITICAL.into_iter().chain(["note"]) {
            let tuples = tuples.iter().map(|key| (key.clone(), None));
            view = view.cover(object_type, tuples);
        }
        Self {
            view,
            tuples: tuples.iter().cloned().collect(),
        }
    }

    pub(crate) fn tuples(&self) -> &HashSet<TupleKey> {
        &self.tuples
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        for key in &step.deletes {
            assert!(self.tuples.remove(key), "{key} was not there");
        }
        for key in &step.writes {
            assert!(self.tuples.insert(key.clone()), "{key} was there");
        }
        let deleted = step.deletes.iter().cloned().map(Change::TupleDeleted);
        let written = step.writes.iter().cloned().map(|key| {
            Change::TupleWritten(Tuple {
                key,
                condition: None,
                timestamp: Timestamp(0),
            })
        });
        self.view = self.view.apply(&ChangeSet {
            store: ANY_ID.parse().unwrap(),
            epoch: Epoch::default(),
            revision: Revision::ZERO,
            committed_at: Timestamp(0),
            changes: deleted.chain(written).collect(),
            touched: Vec::new(),
        });
    }

    pub(crate) fn allows(&self, question: &TupleKey) -> bool {
        let user = question.subject.to_string();
        let asked = Question::parse(question.object.as_str(), &question.relation, &user).unwrap();
        let model = self.view.model(None).unwrap();
        let program = &model.compiled.as_ref().unwrap().program;
        let budget = Budget::of(Limits::default());
        match check(
            &self.view,
            program,
            &asked,
            Given {
                tuples: &[],
                context: &meridian_condition::Context::new(),
            },
            budget,
            &mut Scratch::default(),
        ) {
            Outcome::Allowed => true,
            Outcome::Denied => false,
            other => panic!("{question}: {other:?}"),
        }
    }
}
