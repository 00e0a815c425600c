//! What holds at every step, and what holds at last.

use std::collections::BTreeSet;

use meridian_engine::View;
use meridian_model::ids::{Epoch, StoreId};
use meridian_sync::edge::Input;

use super::{TYPES, Tuples, USERS, World};

/// Steps without faults after which everyone must agree.
const HEALING: usize = 300;

impl World {
    /// Coverage is truth. Returns how many types were compared.
    pub(super) fn agrees(&self, store: StoreId, view: &View) -> Result<usize, String> {
        let position = view.position();
        if position.revision.0 == 0 {
            return Ok(0);
        }
        let facts = self
            .central
            .at(store, position)
            .ok_or_else(|| format!("store {store}: central never was at {position}"))?;
        for object_type in view.covered_types() {
            let held: Tuples = view.tuples_of_type(object_type).into_iter().collect();
            let truth = facts.of_type(object_type);
            if held != truth {
                return Err(format!(
                    "store {store} at {position}: covered type {object_type} holds {held:?}, central had {truth:?}"
                ));
            }
        }
        if *view.tiers() != facts.tiers || !view.models().eq(facts.models.iter()) {
            return Err(format!(
                "store {store} at {position}: models or tiers differ from central's"
            ));
        }
        Ok(view.covered_types().count())
    }

    /// A decided answer is the full answer.
    pub(super) fn answers(&mut self, store: StoreId, view: &View) -> Result<(), String> {
        use meridian_engine::{Budget, Given, Limits, Outcome, Question, Scratch, check};
        let position = view.position();
        let Some(facts) = self.central.at(store, position).cloned() else {
            return Ok(());
        };
        let whole = View::new(position).with_models(facts.models.clone());
        let whole = TYPES
            .iter()
            .fold(whole, |whole, name| whole.cover(name, facts.of_type(name)));
        let ask = |view: &View, question: &Question<'_>| {
            let program = &view.model(None)?.compiled.as_ref()?.program;
            Some(check(
                view,
                program,
                question,
                Given {
                    tuples: &[],
                    context: &meridian_condition::Context::new(),
                },
                Budget::of(Limits::default()),
                &mut Scratch::default(),
            ))
        };
        for _ in 0..4 {
            let (object_type, relation) = *self.random.pick(&[
                ("doc", "can_view"),
                ("doc", "viewer"),
                ("folder", "viewer"),
                ("group", "member"),
                ("log", "reader"),
            ]);
            let object = format!("{object_type}:{}", self.random.below(4));
            let user = *self.random.pick(&USERS);
            let question =
                Question::parse(&object, relation, user).map_err(|error| error.to_string())?;
            match (ask(view, &question), ask(&whole, &question)) {
                (Some(Outcome::Unknown), _) | (None, None) => self.faults.undecided += 1,
                (here, full) if here == full => self.faults.decided += 1,
                (here, full) => {
                    return Err(format!(
                        "store {store} at {position}: {question:?} is {here:?} here, {full:?} in full"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The network works again and writes stop: everyone must come to central's state.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.to_region.heal();
        self.to_edge.heal();
        self.questions.heal();
        self.replies.heal();
        for step in 0..HEALING {
            self.step += 1;
            if step % 20 == 10 {
                // Central's heartbeat, and a silence that makes both look upstream.
                self.region.compare(&self.central);
                self.hand(Input::Reign(Epoch(self.central.epoch)))?;
                self.hand(Input::Reset)?;
            }
            self.travel()?;
            if step > 40 && self.edge.is_settled() && self.converged().is_ok() {
                return Ok(());
            }
        }
        self.converged()
    }

    pub(super) fn converged(&self) -> Result<(), String> {
        for (store, kept) in &self.central.stores {
            match self.region.stores.get(store) {
                Some(copy) if copy.position == kept.position && copy.facts == kept.facts => {}
                other => {
                    return Err(format!(
                        "region has store {store} at {:?}, central at {}",
                        other.map(|copy| copy.position),
                        kept.position
                    ));
                }
            }
            let view = self.published.get(store);
            if kept.facts.deleted {
                if view.is_some() {
                    return Err(format!("edge still has deleted store {store}"));
                }
                continue;
            }
            let view = view.ok_or_else(|| format!("edge lacks store {store}"))?;
            if view.position() != kept.position {
                return Err(format!(
                    "edge has store {store} at {}, central at {}",
                    view.position(),
                    kept.position
                ));
            }
            let wanted = kept
                .facts
                .tiers
                .critical
                .iter()
                .map(String::as_str)
                .collect::<BTreeSet<_>>();
            if view.covered_types().collect::<BTreeSet<_>>() != wanted {
                return Err(format!(
                    "edge covers {:?} of store {store} instead of {wanted:?}",
                    view.covered_types().collect::<Vec<_>>()
                ));
            }
        }
        let extra = self
            .published
            .keys()
            .find(|store| !self.central.stores.contains_key(store));
        extra.map_or(Ok(()), |store| {
            Err(format!("edge has store {store}, which central has not"))
        })
    }
}
