//! From the author's model to the compiled one, with every rule that looks at one definition and what it names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_condition::Condition;

use crate::authorization_model::{
    AuthorizationModel, Condition as ModelCondition, ConditionParameter, RelationReference,
    TypeDefinition, Userset, Usersets,
};
use crate::tuple::{MAX_RELATION_LEN, MAX_TYPE_LEN, is_name};

use super::{
    Cause, Facet, MAX_REWRITE_DEPTH, MAX_TYPES, ModelError, Relation, Restriction, Rewrite, TypeDef,
};

/// Tupleset relations of a type and the types of their parents.
type Tuplesets<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

pub(super) type Types = BTreeMap<Box<str>, TypeDef>;
pub(super) type Conditions = BTreeMap<Box<str>, Arc<Condition>>;

/// Takes note of a broken rule, or gives it back to have the search end with it.
pub(super) type Note<'a> = &'a mut dyn FnMut(ModelError) -> Result<(), ModelError>;

/// Every type and condition of the model, compiled; what of it breaks a rule is left out, once `note` has it.
///
/// # Errors
/// The first rule broken that `note` gives back: those of names first, then type by type and relation by relation in the
/// order of their names.
pub(super) fn compile(
    model: &AuthorizationModel,
    note: Note<'_>,
) -> Result<(Types, Conditions), ModelError> {
    if !matches!(&*model.schema_version, "1.1" | "1.2") {
        return Err(ModelError::SchemaVersion(model.schema_version.clone()));
    }
    if model.type_definitions.len() > MAX_TYPES {
        return Err(ModelError::TooManyTypes);
    }
    let mut definitions = BTreeMap::new();
    for definition in &model.type_definitions {
        check_names(definition).or_else(&mut *note)?;
        if definitions.insert(&*definition.name, definition).is_some() {
            note(ModelError::DuplicateType(definition.name.clone()))?;
        }
    }
    let mut types = BTreeMap::new();
    for (name, definition) in &definitions {
        let tuplesets = tuplesets(definition);
        let mut relations = BTreeMap::new();
        for (relation, rewrite) in &definition.relations {
            let scope = Scope {
                model,
                definitions: &definitions,
                definition,
                relation,
                tuplesets: &tuplesets,
            };
            if let Some(compiled) = scope.relation(rewrite, note)? {
                relations.insert(relation.as_str().into(), compiled);
            }
        }
        types.insert((*name).into(), TypeDef { relations });
    }
    let mut conditions = BTreeMap::new();
    for (key, declared) in &model.conditions {
        if *key != declared.name {
            note(ModelError::ConditionKey {
                key: key.clone(),
                name: declared.name.clone(),
            })?;
        }
        match condition(declared) {
            Ok(compiled) => drop(conditions.insert(key.as_str().into(), Arc::new(compiled))),
            Err(broken) => note(broken)?,
        }
    }
    Ok((types, conditions))
}

/// Compiles a model's condition.
fn condition(declared: &ModelCondition) -> Result<Condition, ModelError> {
    let mut parameters = Vec::new();
    for (name, parameter) in &declared.parameters {
        let of_type = parameter_type(parameter).parse();
        let of_type = of_type.map_err(|source| ModelError::ConditionParameter {
            condition: declared.name.clone(),
            parameter: name.clone(),
            source,
        })?;
        parameters.push((name.clone(), of_type));
    }
    Ok(Condition::compile(
        &declared.name,
        &declared.expression,
        parameters,
    )?)
}

/// `TYPE_NAME_LIST` of `TYPE_NAME_STRING` is `list<string>`.
fn parameter_type(of: &ConditionParameter) -> String {
    let name = of.type_name.trim_start_matches("TYPE_NAME_").to_lowercase();
    let elements: Vec<_> = of.generic_types.iter().map(parameter_type).collect();
    match &*elements {
        [] => name,
        elements => format!("{name}<{}>", elements.join(",")),
    }
}

fn check_names(definition: &TypeDefinition) -> Result<(), ModelError> {
    let name = &definition.name;
    if name.is_empty() {
        return Err(ModelError::EmptyType);
    }
    if let Some(cause) = name_fault(name, MAX_TYPE_LEN) {
        return Err(ModelError::InvalidType {
            name: name.clone(),
            cause,
        });
    }
    for relation in definition.relations.keys() {
        if relation.is_empty() {
            return Err(ModelError::EmptyRelation(name.clone()));
        }
        if let Some(cause) = name_fault(relation, MAX_RELATION_LEN) {
            return Err(ModelError::relation(name, relation, cause));
        }
    }
    Ok(())
}

fn name_fault(name: &str, max_len: usize) -> Option<Cause> {
    match name {
        "self" | "this" => Some(Cause::Reserved),
        _ => (!is_name(name, max_len)).then_some(Cause::Name),
    }
}

/// The relations that stand right of a `from` in the type, with the types they admit. Gathered once a type, since a
/// model may name the same tupleset thousands of times.
fn tuplesets(definition: &TypeDefinition) -> Tuplesets<'_> {
    fn collect<'a>(rewrite: &'a Userset, depth: usize, found: &mut BTreeSet<&'a str>) {
        // What lies deeper is refused when its relation is compiled.
        if depth > MAX_REWRITE_DEPTH {
            return;
        }
        match rewrite {
            Userset::This(_) | Userset::ComputedUserset(_) => {}
            Userset::TupleToUserset(of) => {
                found.insert(&of.tupleset.relation);
            }
            Userset::Union(of) | Userset::Intersection(of) => of
                .child
                .iter()
                .for_each(|child| collect(child, depth + 1, found)),
            Userset::Difference(of) => {
                collect(&of.base, depth + 1, found);
                collect(&of.subtract, depth + 1, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    definition
        .relations
        .values()
        .for_each(|rewrite| collect(rewrite, 1, &mut found));
    let parents = |tupleset| {
        restrictions_of(definition, tupleset)
            .iter()
            .map(|reference| &*reference.type_name)
            .collect()
    };
    found
        .into_iter()
        .map(|tupleset| (tupleset, parents(tupleset)))
        .collect()
}

fn restrictions_of<'a>(definition: &'a TypeDefinition, relation: &str) -> &'a [RelationReference] {
    let metadata = definition
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.relations.get(relation));
    metadata.map_or(&[], |metadata| &metadata.directly_related_user_types)
}

/// One relation and where it stands.
struct Scope<'a> {
    model: &'a AuthorizationModel,
    definitions: &'a BTreeMap<&'a str, &'a TypeDefinition>,
    definition: &'a TypeDefinition,
    relation: &'a str,
    tuplesets: &'a Tuplesets<'a>,
}

impl Scope<'_> {
    /// The relation, unless its rewrite breaks a rule that is noted.
    fn relation(&self, rewrite: &Userset, note: Note<'_>) -> Result<Option<Relation>, ModelError> {
        let references = restrictions_of(self.definition, self.relation);
        let rewrite = match self.rewrite(rewrite, 1) {
            Ok(rewrite) => rewrite,
            Err(broken) => {
                note(broken)?;
                self.restrictions(references, note)?;
                return Ok(None);
            }
        };
        let mut assignable = false;
        rewrite.for_each_leaf(&mut |leaf| assignable |= *leaf == Rewrite::This);
        let (object_type, relation) = (self.definition.name.clone(), self.relation.to_owned());
        match (assignable, references.is_empty()) {
            (true, true) => note(ModelError::Assignable {
                object_type,
                relation,
            })?,
            (false, false) => note(ModelError::NonAssignable {
                object_type,
                relation,
            })?,
            _ => {}
        }
        Ok(Some(Relation {
            rewrite,
            restrictions: self.restrictions(references, note)?,
        }))
    }

    /// The restrictions, each once: OpenFGA lets an author repeat them.
    fn restrictions(
        &self,
        references: &[RelationReference],
        note: Note<'_>,
    ) -> Result<Vec<Restriction>, ModelError> {
        let mut seen = BTreeSet::new();
        let mut restrictions = Vec::new();
        for reference in references {
            match self.restriction(reference) {
                Ok(restriction) if seen.insert(restriction.clone()) => {
                    restrictions.push(restriction);
                }
                Ok(_) => {}
                Err(broken) => note(broken)?,
            }
        }
        Ok(restrictions)
    }

    fn rewrite(&self, rewrite: &Userset, depth: usize) -> Result<Rewrite, ModelError> {
        if depth > MAX_REWRITE_DEPTH {
            return Err(self.fault(Cause::Depth));
        }
        match rewrite {
            Userset::This(_) => Ok(Rewrite::This),
            Userset::ComputedUserset(of) if of.relation == self.relation => {
                Err(self.fault(Cause::Rewrite))
            }
            Userset::ComputedUserset(of) => {
                self.defined(&of.relation)?;
                Ok(Rewrite::Computed(of.relation.as_str().into()))
            }
            Userset::TupleToUserset(of) => {
                self.computed_from(&of.tupleset.relation, &of.computed_userset.relation)
            }
            Userset::Union(of) => self.children(of, "union", depth).map(Rewrite::Union),
            Userset::Intersection(of) => self
                .children(of, "intersection", depth)
                .map(Rewrite::Intersection),
            Userset::Difference(of) => {
                let both = (
                    self.rewrite(&of.base, depth + 1)?,
                    self.rewrite(&of.subtract, depth + 1)?,
                );
                Ok(Rewrite::Exclusion(Box::new(both)))
            }
        }
    }

    fn children(
        &self,
        of: &Usersets,
        operator: &'static str,
        depth: usize,
    ) -> Result<Vec<Rewrite>, ModelError> {
        if of.child.len() < 2 {
            return Err(ModelError::TooFewChildren {
                object_type: self.definition.name.clone(),
                relation: self.relation.to_owned(),
                operator,
            });
        }
        of.child
            .iter()
            .map(|child| self.rewrite(child, depth + 1))
            .collect()
    }

    fn computed_from(&self, tupleset: &str, computed: &str) -> Result<Rewrite, ModelError> {
        let object_type = self.definition.name.clone();
        if !matches!(self.defined(tupleset)?, Userset::This(_)) {
            return Err(ModelError::IndirectTupleset {
                object_type,
                relation: tupleset.to_owned(),
            });
        }
        let parents = || self.tuplesets.get(tupleset).into_iter().flatten().copied();
        if !parents().any(|parent| self.defines(parent, computed)) {
            return Err(ModelError::NoParentDefines {
                object_type,
                tupleset: tupleset.to_owned(),
                computed: computed.to_owned(),
                parents: parents().collect::<Vec<_>>().join(", "),
            });
        }
        Ok(Rewrite::FromParent {
            tupleset: tupleset.into(),
            computed: computed.into(),
        })
    }

    fn restriction(&self, reference: &RelationReference) -> Result<Restriction, ModelError> {
        let (object_type, relation) = (self.definition.name.clone(), self.relation.to_owned());
        let type_name = &reference.type_name;
        let is_tupleset = self.tuplesets.contains_key(self.relation);
        let (facet, known) = match (&reference.relation, &reference.wildcard) {
            (None, None) => (Facet::Object, self.definitions.contains_key(&**type_name)),
            (None, Some(_)) => (
                Facet::Wildcard,
                self.definitions.contains_key(&**type_name) && !is_tupleset,
            ),
            (Some(of), None) if of.is_empty() => {
                return Err(ModelError::EmptyRestriction {
                    object_type,
                    relation,
                    restriction: type_name.clone(),
                });
            }
            (Some(of), wildcard) => (
                Facet::Userset(of.as_str().into()),
                wildcard.is_none() && self.defines(type_name, of) && !is_tupleset,
            ),
        };
        let condition =
            (!reference.condition.is_empty()).then(|| reference.condition.as_str().into());
        let restriction = Restriction {
            type_name: type_name.as_str().into(),
            facet,
            condition,
        };
        if !known {
            return Err(ModelError::InvalidRestriction {
                object_type,
                relation,
                restriction: restriction.to_string(),
            });
        }
        match &restriction.condition {
            Some(name)
                if &**name != Condition::INLINE && !self.model.conditions.contains_key(&**name) =>
            {
                Err(ModelError::UndefinedCondition {
                    relation,
                    condition: name.to_string(),
                })
            }
            _ => Ok(restriction),
        }
    }

    /// The rewrite of another relation of the same type.
    fn defined(&self, relation: &str) -> Result<&Userset, ModelError> {
        self.definition
            .relations
            .get(relation)
            .ok_or_else(|| ModelError::UndefinedRelation {
                object_type: self.definition.name.clone(),
                relation: relation.to_owned(),
            })
    }

    fn defines(&self, object_type: &str, relation: &str) -> bool {
        self.definitions
            .get(object_type)
            .is_some_and(|definition| definition.relations.contains_key(relation))
    }

    fn fault(&self, cause: Cause) -> ModelError {
        ModelError::relation(&self.definition.name, self.relation, cause)
    }
}
