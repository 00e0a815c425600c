//! What an evaluation reads of a view.

use super::View;
use crate::facts::{Facts, ObjectId, SetKey, SetRef};
use crate::sets::Subject;
use crate::symbols::{RelationId, Symbols, TypeId};

impl Facts for View {
    fn object(&self, name: &str) -> Option<ObjectId> {
        self.root.names.get(name)
    }

    fn object_name(&self, id: ObjectId) -> &str {
        self.root.names.text(id)
    }

    fn is_wildcard(&self, id: ObjectId) -> bool {
        self.root.names.is_wildcard(id)
    }

    fn type_of(&self, id: ObjectId) -> Option<TypeId> {
        self.root.names.type_of(id)
    }

    fn symbols(&self) -> &Symbols {
        &self.root.symbols
    }

    fn direct(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        self.root.covered.contains(&object_type).then(|| SetRef {
            conditioned: self.root.conditioned.get(&set),
            ..self.root.sets.get(set)
        })
    }

    fn parents(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        self.direct(object_type, set)
    }

    fn members(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        self.direct(object_type, set)
    }

    fn objects_of(
        &self,
        subject: Subject,
        object_type: TypeId,
        relation: RelationId,
    ) -> Option<impl Iterator<Item = (ObjectId, bool)>> {
        let root = &*self.root;
        root.covered.contains(&object_type).then(|| {
            let objects = root.holders.objects(subject, object_type, relation);
            objects.map(move |object| {
                let members = root.conditioned.get(&SetKey::new(object, relation));
                let is_bound = members.is_some_and(|members| members.contains_key(&subject));
                (object, is_bound)
            })
        })
    }
}
