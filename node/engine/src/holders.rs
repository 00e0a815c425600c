//! The tuples of a view turned round: for each subject the sets it stands in.

use crate::facts::{ObjectId, SetKey};
use crate::names::Names;
use crate::sets::{Sets, Subject};
use crate::symbols::{RelationId, TypeId};

/// By the type of the objects, since a listing asks for the objects of a type, and types come and go whole.
#[derive(Clone, Default)]
pub(crate) struct Holders {
    of_type: imbl::OrdMap<TypeId, Sets>,
}

/// A subject in the place of a set's key. No relation has the number by which plain objects are told from usersets.
fn place(subject: Subject) -> SetKey {
    match subject {
        Subject::Object(id) => SetKey(u64::from(id.0) << 32 | u64::from(u32::MAX)),
        Subject::Userset(set) => set,
    }
}

impl Holders {
    /// The objects of the type in whose relation the subject stands.
    pub(crate) fn objects(
        &self,
        subject: Subject,
        object_type: TypeId,
        relation: RelationId,
    ) -> impl Iterator<Item = ObjectId> {
        let sets = self.of_type.get(&object_type);
        let sets = sets.map(|sets| sets.get(place(subject)).usersets.iter());
        sets.into_iter()
            .flatten()
            .filter(move |set| set.relation() == relation)
            .map(SetKey::object)
    }

    /// Puts a tuple in or takes it out.
    pub(crate) fn change(
        &mut self,
        object_type: TypeId,
        subject: Subject,
        set: SetKey,
        present: bool,
    ) {
        let sets = self.of_type.entry(object_type).or_default();
        sets.change(place(subject), Subject::Userset(set), present);
    }

    /// Adds many tuples, of types of which nothing is held yet.
    pub(crate) fn extend(
        &mut self,
        members: impl Iterator<Item = (SetKey, Subject)>,
        names: &Names,
    ) {
        let mut of_type: std::collections::BTreeMap<TypeId, Vec<_>> = Default::default();
        for (set, subject) in members {
            if let Some(object_type) = names.type_of(set.object()) {
                let turned = (place(subject), Subject::Userset(set));
                of_type.entry(object_type).or_default().push(turned);
            }
        }
        for (object_type, turned) in of_type {
            let mut sets = Sets::default();
            sets.extend(turned);
            self.of_type.insert(object_type, sets);
        }
    }

    /// Forgets a type.
    pub(crate) fn uncover(&mut self, object_type: TypeId) {
        self.of_type.remove(&object_type);
    }
}
