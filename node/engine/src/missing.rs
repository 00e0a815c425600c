//! What an evaluation or a listing read in vain, and its names.

use std::sync::Arc;

use meridian_model::ports::Read;
use meridian_model::{Object, Subject as TupleSubject};

use crate::facts::{Facts, SetKey};
use crate::overlay::Overlay;
use crate::sets::Subject;
use crate::symbols::{RelationId, TypeId};

/// Something that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    /// What of a set decides a direct relation of the asked user.
    Direct(SetKey),
    /// The objects that a set names.
    Parents(SetKey),
    /// Everything in a set.
    Members(SetKey),
    /// The objects of a type to which a subject has a direct relation.
    Objects(Subject, TypeId, RelationId),
}

impl Missing {
    /// By name; `None` only for what a datastore is never asked, a set of a typed wildcard. `user` is whom a direct relation is asked about.
    pub(crate) fn name(
        self,
        overlay: &Overlay,
        facts: &impl Facts,
        user: Option<&Arc<TupleSubject>>,
    ) -> Option<Read> {
        let set = |key: SetKey| {
            let relation = facts.symbols().relation_name(key.relation());
            Some((object(overlay.name(facts, key.object()))?, relation.into()))
        };
        Some(match self {
            Self::Direct(key) => {
                let (object, relation) = set(key)?;
                let user = Arc::clone(user?);
                Read::Direct {
                    object,
                    relation,
                    user,
                }
            }
            Self::Parents(key) => {
                let (object, relation) = set(key)?;
                Read::Parents { object, relation }
            }
            Self::Members(key) => {
                let (object, relation) = set(key)?;
                Read::Members { object, relation }
            }
            Self::Objects(subject, object_type, relation) => Read::Objects {
                subject: match subject {
                    Subject::Object(id) => overlay.name(facts, id).parse().ok()?,
                    Subject::Userset(key) => {
                        let (object, relation) = set(key)?;
                        TupleSubject::Userset(object, relation)
                    }
                },
                object_type: facts.symbols().type_name(object_type).into(),
                relation: facts.symbols().relation_name(relation).into(),
            },
        })
    }
}

/// An object, as long as a user may be: a userset of one that is too long to have tuples can be asked about.
fn object(name: &str) -> Option<Object> {
    match name.parse().ok()? {
        TupleSubject::Object(object) => Some(object),
        TupleSubject::Wildcard(_) | TupleSubject::Userset(..) => None,
    }
}
