//! The part of a store that a node holds in memory.
//!
//! A view is immutable: applying a revision makes the next one, sharing all that did not change, and readers go on with
//! the one they have. So a revision becomes visible whole or not at all, and a check holds one view from start to end.
//!
//! Coverage is per object type: a covered type's every set is known, and one that is absent is empty. Of other types
//! nothing is held. Coverage shrinks before data go ([`View::uncover`]) and grows only once data are whole
//! ([`View::cover`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_model::change::{StoreInfo, StoredModel};
use meridian_model::{
    Change, ChangeSet, ModelId, Position, Subject as TupleSubject, Tiers, Tuple, TupleCondition,
    TupleKey, TypeSystem,
};

use crate::bound::{Binding, Conditioned};
use crate::facts::{ObjectId, SetKey, intern};
pub use crate::file::UnreadableFile;
use crate::holders::Holders;
use crate::names::Names;
use crate::program::Program;
use crate::sets::{Sets, Subject};
use crate::symbols::{Symbols, TypeId};

mod facts;
mod free;
#[cfg(test)]
mod tests;
mod tuples;

/// What a node holds of one store. Cloning is cheap.
#[derive(Clone)]
pub struct View {
    root: Arc<Root>,
}

#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) position: Position,
    pub(crate) info: Option<StoreInfo>,
    pub(crate) deleted: bool,
    pub(crate) tiers: Arc<Tiers>,
    pub(crate) models: imbl::OrdMap<ModelId, Arc<ViewModel>>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) names: Names,
    /// No fewer names are in use.
    pub(crate) names_in_use: usize,
    pub(crate) sets: Sets,
    /// The members that are bound to a condition; no set here is empty.
    pub(crate) conditioned: imbl::OrdMap<SetKey, Conditioned>,
    /// The same tuples turned round.
    pub(crate) holders: Holders,
    pub(crate) covered: Arc<BTreeSet<TypeId>>,
}

/// A model as a view holds it: as stored, checked, and bound to the view's numbers.
pub struct ViewModel {
    /// As stored.
    pub stored: StoredModel,
    /// Checked; `None` for a model that this build cannot compile. Questions under it go upstream.
    pub compiled: Option<CompiledModel>,
}

/// A checked model and its program.
pub struct CompiledModel {
    /// For validation.
    pub types: TypeSystem,
    /// For evaluation over this view (or a later one of the same node).
    pub program: Program,
}

impl View {
    /// Nothing is held, nothing covered.
    pub fn new(position: Position) -> Self {
        let root = Root {
            position,
            info: None,
            deleted: false,
            tiers: Arc::default(),
            models: imbl::OrdMap::default(),
            symbols: Arc::default(),
            names: Names::default(),
            names_in_use: 0,
            sets: Sets::default(),
            conditioned: imbl::OrdMap::new(),
            holders: Holders::default(),
            covered: Arc::default(),
        };
        Self {
            root: Arc::new(root),
        }
    }

    /// The revision up to which the view has everything of its covered types.
    pub fn position(&self) -> Position {
        self.root.position
    }

    /// The store's metadata, once known.
    pub fn info(&self) -> Option<&StoreInfo> {
        self.root.info.as_ref()
    }

    /// Whether the store was deleted.
    pub fn is_deleted(&self) -> bool {
        self.root.deleted
    }

    /// The tier assignment in force.
    pub fn tiers(&self) -> &Tiers {
        &self.root.tiers
    }

    /// A model, or the latest one.
    pub fn model(&self, id: Option<ModelId>) -> Option<&Arc<ViewModel>> {
        match id {
            Some(id) => self.root.models.get(&id),
            None => self.root.models.get_max().map(|(_, model)| model),
        }
    }

    /// Every model, oldest first.
    pub fn models(&self) -> impl Iterator<Item = &StoredModel> {
        self.root.models.values().map(|model| &model.stored)
    }

    /// Whether every set of the type is known.
    pub fn is_covered(&self, object_type: &str) -> bool {
        self.root
            .symbols
            .object_type(object_type)
            .is_some_and(|id| self.root.covered.contains(&id))
    }

    /// The covered types.
    pub fn covered_types(&self) -> impl Iterator<Item = &str> {
        self.root
            .covered
            .iter()
            .map(|id| self.root.symbols.type_name(*id))
    }

    /// The number of tuples held.
    pub fn tuple_count(&self) -> usize {
        self.root.members().count()
    }

    /// The number of names held, among them some that no tuple has any longer: at most as many again as those in use, and
    /// a few thousand.
    pub fn name_count(&self) -> usize {
        self.root.names.len()
    }

    /// The next view: at the change set's position, with its models, tiers and the tuples of covered types. Others are
    /// left out.
    #[must_use]
    pub fn apply(&self, change_set: &ChangeSet) -> Self {
        let mut root = Root::clone(&self.root);
        root.position = change_set.position();
        for change in &change_set.changes {
            root.change(change);
        }
        root.free_names();
        Self {
            root: Arc::new(root),
        }
    }

    /// The same view with these models added.
    #[must_use]
    pub fn with_models(&self, models: impl IntoIterator<Item = StoredModel>) -> Self {
        let mut root = Root::clone(&self.root);
        models.into_iter().for_each(|model| root.add_model(model));
        Self {
            root: Arc::new(root),
        }
    }

    /// The same view with the store's metadata and tiers set.
    #[must_use]
    pub fn with_head(&self, info: StoreInfo, tiers: Tiers) -> Self {
        let root = Root {
            info: Some(info),
            tiers: Arc::new(tiers),
            ..Root::clone(&self.root)
        };
        Self {
            root: Arc::new(root),
        }
    }

    /// The same view with a type wholly known: exactly these tuples of it exist at the view's position. Tuples of other
    /// types are left out. The type is not covered in the result when there are no numbers left for its names.
    #[must_use]
    pub fn cover(
        &self,
        object_type: &str,
        tuples: impl IntoIterator<Item = (TupleKey, Option<TupleCondition>)>,
    ) -> Self {
        let uncovered = self.uncover(object_type);
        let mut root = Root::clone(&uncovered.root);
        let Some(id) = Arc::make_mut(&mut root.symbols).add_type(object_type) else {
            return uncovered;
        };
        let members: Option<Vec<_>> = tuples
            .into_iter()
            .filter(|(key, _)| key.object.object_type() == object_type)
            .map(|(key, condition)| {
                let (set, subject) = root.member(&key)?;
                Some((set, subject, bind(condition)))
            })
            .collect();
        // Numbers running out leaves the type uncovered: answered upstream, never wrongly.
        let Some(members) = members else {
            return uncovered;
        };
        root.names.fold();
        root.lay_out(members);
        Arc::make_mut(&mut root.covered).insert(id);
        root.free_names();
        Self {
            root: Arc::new(root),
        }
    }

    /// The same view without a type.
    #[must_use]
    pub fn uncover(&self, object_type: &str) -> Self {
        let Some(id) = self
            .root
            .symbols
            .object_type(object_type)
            .filter(|id| self.root.covered.contains(id))
        else {
            return self.clone();
        };
        let mut root = Root::clone(&self.root);
        Arc::make_mut(&mut root.covered).remove(&id);
        let Root {
            names,
            sets,
            conditioned,
            ..
        } = &mut root;
        sets.retain(|key| names.type_of(key.object()) != Some(id));
        let of_others = conditioned
            .iter()
            .filter(|(key, _)| names.type_of(key.object()) != Some(id));
        *conditioned = of_others
            .map(|(key, members)| (*key, members.clone()))
            .collect();
        root.holders.uncover(id);
        root.names_in_use = 0;
        root.free_names();
        Self {
            root: Arc::new(root),
        }
    }

    /// The view as a file's content: its position, models and tiers, then the names and sets as they are laid out in
    /// memory.
    pub fn to_file(&self) -> Vec<u8> {
        crate::file::write(&self.root)
    }

    pub(crate) fn into_root(self) -> Root {
        Arc::unwrap_or_clone(self.root)
    }

    /// Reads a view back.
    ///
    /// # Errors
    /// [`UnreadableFile`] when the content is not a whole view of this format: start over from upstream.
    pub fn from_file(content: &[u8]) -> Result<Self, UnreadableFile> {
        Ok(Self {
            root: Arc::new(crate::file::read(content)?),
        })
    }
}

impl Root {
    fn change(&mut self, change: &Change) {
        match change {
            Change::TupleWritten(Tuple { key, condition, .. }) => {
                self.change_tuple(key, Some(condition.clone()));
            }
            Change::TupleDeleted(key) => self.change_tuple(key, None),
            Change::ModelWritten(model) => self.add_model(model.clone()),
            Change::StoreCreated(info) => self.info = Some(info.clone()),
            Change::TiersAssigned(tiers) => self.tiers = Arc::new(tiers.clone()),
            Change::StoreDeleted => {
                let emptied = View::new(self.position).root;
                *self = Self {
                    deleted: true,
                    info: self.info.take(),
                    ..Self::clone(&emptied)
                };
            }
        }
    }

    /// Writes a tuple with its condition, or deletes it.
    fn change_tuple(&mut self, key: &TupleKey, written: Option<Option<TupleCondition>>) {
        let covered = self
            .symbols
            .object_type(key.object.object_type())
            .is_some_and(|id| self.covered.contains(&id));
        if !covered {
            return;
        }
        match self.member(key) {
            Some((set, subject)) => {
                let present = written.is_some();
                let binding = written.and_then(bind);
                self.sets.change(set, subject, present && binding.is_none());
                self.bind(set, subject, binding);
                if let Some(object_type) = self.names.type_of(set.object()) {
                    self.holders.change(object_type, subject, set, present);
                }
                if !present {
                    // Its object and its subject may have been named by this tuple alone.
                    self.names_in_use = self.names_in_use.saturating_sub(2);
                }
            }
            // No number is left for a name: the type is no longer whole.
            None => {
                let uncovered = View {
                    root: Arc::new(self.clone()),
                }
                .uncover(key.object.object_type());
                *self = Self::clone(&uncovered.root);
            }
        }
    }

    /// Lays out members of sets of which nothing is held yet.
    pub(crate) fn lay_out(&mut self, members: Vec<Member>) {
        let all = members.iter().map(|(set, subject, _)| (*set, *subject));
        self.holders.extend(all, &self.names);
        let mut plain = Vec::with_capacity(members.len());
        for (set, subject, binding) in members {
            match binding {
                None => plain.push((set, subject)),
                bound => self.bind(set, subject, bound),
            }
        }
        self.sets.extend(plain);
    }

    /// Binds a member to a condition, or frees it.
    fn bind(&mut self, set: SetKey, subject: Subject, binding: Option<Arc<Binding>>) {
        match binding {
            Some(binding) => {
                let members = self.conditioned.entry(set).or_default();
                members.insert(subject, binding);
            }
            None if self.conditioned.is_empty() => {}
            None => {
                if let Some(members) = self.conditioned.get_mut(&set) {
                    members.remove(&subject);
                    if members.is_empty() {
                        self.conditioned.remove(&set);
                    }
                }
            }
        }
    }

    pub(crate) fn add_model(&mut self, stored: StoredModel) {
        let symbols = Arc::make_mut(&mut self.symbols);
        let compiled = TypeSystem::new(stored.model.clone())
            .ok()
            .and_then(|types| {
                Program::compile(&types, symbols).map(|program| CompiledModel { types, program })
            });
        self.models
            .insert(stored.id, Arc::new(ViewModel { stored, compiled }));
    }

    /// Numbers for a tuple's names; `None` when there are none left.
    fn member(&mut self, key: &TupleKey) -> Option<(SetKey, Subject)> {
        let set = self.set_key(key.object.as_str(), &key.relation)?;
        let subject = match &key.subject {
            TupleSubject::Object(object) => Subject::Object(self.object_id(object.as_str())?),
            TupleSubject::Wildcard(object_type) => {
                Subject::Object(self.object_id(&format!("{object_type}:*"))?)
            }
            TupleSubject::Userset(object, relation) => {
                Subject::Userset(self.set_key(object.as_str(), relation)?)
            }
        };
        Some((set, subject))
    }

    fn object_id(&mut self, name: &str) -> Option<ObjectId> {
        match self.names.get(name) {
            Some(id) => Some(id),
            None => intern(&mut self.names, Arc::make_mut(&mut self.symbols), name),
        }
    }

    fn set_key(&mut self, object: &str, relation: &str) -> Option<SetKey> {
        let relation = match self.symbols.relation(relation) {
            Some(id) => id,
            None => Arc::make_mut(&mut self.symbols).add_relation(relation)?,
        };
        Some(SetKey::new(self.object_id(object)?, relation))
    }
}

/// A member of a set, with what it is bound to.
pub(crate) type Member = (SetKey, Subject, Option<Arc<Binding>>);

fn bind(condition: Option<TupleCondition>) -> Option<Arc<Binding>> {
    Some(Arc::new(Binding::new(condition?).parsed()))
}
