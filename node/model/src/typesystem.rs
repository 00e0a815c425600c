//! A model, checked and compiled: what evaluation and validation ask of it.

mod compile;
mod entrypoints;
mod error;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use meridian_condition::Condition;

use crate::authorization_model::AuthorizationModel;
use crate::tuple::Subject;

pub use error::{Cause, ModelError};

/// Most types a model may define.
pub const MAX_TYPES: usize = 100;
/// Most bytes of a model in protobuf form. Whoever decodes the protobuf checks it.
pub const MAX_MODEL_BYTES: usize = 262_144;
/// Deepest nesting of a relation's rewrite. Keeps a model within what decoders of its two forms accept: 128 levels of
/// JSON (a union takes three) and 100 of protobuf (two).
pub const MAX_REWRITE_DEPTH: usize = 32;

/// A checked model. Immutable; shared by everything that works under it.
#[derive(Debug, Clone)]
pub struct TypeSystem {
    types: compile::Types,
    conditions: compile::Conditions,
    model: Arc<AuthorizationModel>,
}

/// The rules that a model breaks, `most` at most: those of single definitions, or, where it keeps them all, those of
/// relations together. Empty when it breaks neither.
pub(crate) fn broken_rules(model: &AuthorizationModel, most: usize) -> Vec<ModelError> {
    let mut broken = Vec::new();
    let found = compile::compile(model, &mut |rule| noted(&mut broken, rule, most));
    let found = match found {
        Ok((types, _)) if broken.is_empty() => {
            // Of a cycle every relation breaks the rule: the first says it.
            entrypoints::check(&types, &mut Err)
        }
        found => found.map(drop),
    };
    broken.extend(found.err());
    broken
}

/// Keeps a broken rule; gives back the one with which there are enough.
fn noted(broken: &mut Vec<ModelError>, rule: ModelError, most: usize) -> Result<(), ModelError> {
    if broken.len() + 1 >= most {
        return Err(rule);
    }
    broken.push(rule);
    Ok(())
}

/// A type's relations by name.
#[derive(Debug, Clone, Default)]
pub struct TypeDef {
    /// The relations.
    pub relations: BTreeMap<Box<str>, Relation>,
}

/// A relation, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    /// How its users are computed.
    pub rewrite: Rewrite,
    /// Who may be related directly, each once; empty when the rewrite has no [`Rewrite::This`].
    pub restrictions: Vec<Restriction>,
}

/// How the users of a relation are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// The relation's own tuples.
    This,
    /// Another relation of the same object.
    Computed(Box<str>),
    /// `computed from tupleset`.
    FromParent {
        /// The relation whose tuples name the parents.
        tupleset: Box<str>,
        /// The relation to evaluate at each parent whose type defines it.
        computed: Box<str>,
    },
    /// Any child.
    Union(Vec<Rewrite>),
    /// Every child.
    Intersection(Vec<Rewrite>),
    /// The first without the second.
    Exclusion(Box<(Rewrite, Rewrite)>),
}

/// One type restriction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Restriction {
    /// The subject's type.
    pub type_name: Box<str>,
    /// Which subjects of that type.
    pub facet: Facet,
    /// The condition a tuple must be bound to.
    pub condition: Option<Box<str>>,
}

/// Which subjects of a type a restriction lets in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Facet {
    /// Concrete objects, `user`.
    Object,
    /// The typed wildcard, `user:*`.
    Wildcard,
    /// Usersets of a relation, `team#member`.
    Userset(Box<str>),
}

impl Relation {
    /// Whether it has tuples of its own.
    pub fn is_assignable(&self) -> bool {
        !self.restrictions.is_empty()
    }

    /// Whether it admits concrete objects of a type.
    pub fn accepts_object(&self, object_type: &str) -> bool {
        self.accepts_facet(object_type, |facet| *facet == Facet::Object)
    }

    /// Whether it admits the wildcard of a type, `user:*`.
    pub fn accepts_wildcard(&self, object_type: &str) -> bool {
        self.accepts_facet(object_type, |facet| *facet == Facet::Wildcard)
    }

    /// Whether it admits usersets of a type's relation, `team#member`.
    pub fn accepts_userset(&self, object_type: &str, relation: &str) -> bool {
        self.accepts_facet(
            object_type,
            |facet| matches!(facet, Facet::Userset(of) if **of == *relation),
        )
    }

    fn accepts_facet(&self, object_type: &str, facet: impl Fn(&Facet) -> bool) -> bool {
        self.restrictions
            .iter()
            .any(|restriction| *restriction.type_name == *object_type && facet(&restriction.facet))
    }
}

impl Restriction {
    /// Whether the subject is of its type and facet.
    pub fn admits(&self, subject: &Subject) -> bool {
        *self.type_name == *subject.subject_type()
            && match (&self.facet, subject) {
                (Facet::Object, Subject::Object(_)) | (Facet::Wildcard, Subject::Wildcard(_)) => {
                    true
                }
                (Facet::Userset(of), Subject::Userset(_, relation)) => of == relation,
                _ => false,
            }
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.facet {
            Facet::Object => f.write_str(&self.type_name),
            Facet::Wildcard => write!(f, "{}:*", self.type_name),
            Facet::Userset(relation) => write!(f, "{}#{relation}", self.type_name),
        }
    }
}

impl Rewrite {
    /// Calls `visit` for each leaf: a `This`, `Computed` or `FromParent`, left to right.
    pub fn for_each_leaf<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        match self {
            Self::This | Self::Computed(_) | Self::FromParent { .. } => visit(self),
            Self::Union(children) | Self::Intersection(children) => {
                children.iter().for_each(|child| child.for_each_leaf(visit))
            }
            Self::Exclusion(both) => {
                both.0.for_each_leaf(visit);
                both.1.for_each_leaf(visit);
            }
        }
    }
}

impl TypeSystem {
    /// Checks and compiles a model.
    ///
    /// # Errors
    /// [`ModelError`], the first rule it breaks.
    pub fn new(model: Arc<AuthorizationModel>) -> Result<Self, ModelError> {
        let (types, conditions) = compile::compile(&model, &mut Err)?;
        entrypoints::check(&types, &mut Err)?;
        Ok(Self {
            types,
            conditions,
            model,
        })
    }

    /// The model it was compiled from.
    pub fn model(&self) -> &Arc<AuthorizationModel> {
        &self.model
    }

    /// Every type by name.
    pub fn types(&self) -> impl Iterator<Item = (&str, &TypeDef)> {
        self.types.iter().map(|(name, def)| (&**name, def))
    }

    /// A relation of a type; `None` when either is not defined.
    pub fn relation(&self, object_type: &str, relation: &str) -> Option<&Relation> {
        self.types.get(object_type)?.relations.get(relation)
    }

    /// A condition that the model defines.
    pub fn condition(&self, name: &str) -> Option<&Arc<Condition>> {
        self.conditions.get(name)
    }

    /// Whether some type restriction lets tuples bring their own expressions.
    pub fn has_inline_conditions(&self) -> bool {
        let relations = self.types.values().flat_map(|def| def.relations.values());
        relations
            .flat_map(|relation| &relation.restrictions)
            .any(|restriction| restriction.condition.as_deref() == Some(Condition::INLINE))
    }

    /// Whether the model defines the type.
    pub fn has_type(&self, object_type: &str) -> bool {
        self.types.contains_key(object_type)
    }

    /// Whether the relation is the tupleset of some `x from relation` of its type.
    pub fn is_tupleset(&self, object_type: &str, relation: &str) -> bool {
        let mut found = false;
        for other in self
            .types
            .get(object_type)
            .into_iter()
            .flat_map(|def| def.relations.values())
        {
            other.rewrite.for_each_leaf(&mut |leaf| {
                if let Rewrite::FromParent { tupleset, .. } = leaf {
                    found |= **tupleset == *relation;
                }
            });
        }
        found
    }

    /// Every type whose tuples an answer about `object_type#relation` may depend on; empty when that is not defined.
    pub fn closure_types(&self, object_type: &str, relation: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut pending = Vec::new();
        let mut reach = |pending: &mut Vec<_>, object_type: &str, relation: &str| {
            let Some((object_type, def)) = self.types.get_key_value(object_type) else {
                return;
            };
            let Some((relation, compiled)) = def.relations.get_key_value(relation) else {
                return;
            };
            if seen.insert((&**object_type, &**relation)) {
                pending.push((&**object_type, compiled));
            }
        };
        reach(&mut pending, object_type, relation);
        while let Some((object_type, compiled)) = pending.pop() {
            compiled.rewrite.for_each_leaf(&mut |leaf| match leaf {
                Rewrite::Computed(relation) => reach(&mut pending, object_type, relation),
                Rewrite::FromParent { tupleset, computed } => {
                    for parent in self
                        .relation(object_type, tupleset)
                        .into_iter()
                        .flat_map(|tupleset| &tupleset.restrictions)
                    {
                        reach(&mut pending, &parent.type_name, computed);
                    }
                }
                _ => {
                    for restriction in &compiled.restrictions {
                        if let Facet::Userset(relation) = &restriction.facet {
                            reach(&mut pending, &restriction.type_name, relation);
                        }
                    }
                }
            });
        }
        seen.into_iter()
            .map(|(object_type, _)| object_type)
            .collect()
    }
}
