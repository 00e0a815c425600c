//! An authorization model as its author wrote it. The serde form is OpenFGA's JSON, which is also how datastores keep
//! it and how it travels between nodes; [`crate::TypeSystem`] is the checked and compiled form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A model: types with their relations, and conditions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AuthorizationModel {
    /// `1.1` or `1.2`.
    pub schema_version: String,
    /// The types, in the author's order.
    pub type_definitions: Vec<TypeDefinition>,
    /// The conditions by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, Condition>,
}

/// One type with its relations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TypeDefinition {
    /// The type's name.
    #[serde(rename = "type")]
    pub name: String,
    /// How each relation is computed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relations: BTreeMap<String, Userset>,
    /// Who may be related directly, and where the definition came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// How the users of a relation are computed (a rewrite).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Userset {
    /// Those of the relation's own tuples.
    This(Empty),
    /// Those of another relation of the same object.
    ComputedUserset(ObjectRelation),
    /// Those of a relation of every object that the tupleset relation names (`x from y`).
    TupleToUserset(TupleToUserset),
    /// Any of the children.
    Union(Usersets),
    /// All of the children.
    Intersection(Usersets),
    /// The base without the subtracted.
    Difference(Box<Difference>),
}

/// An empty message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Empty {}

/// A relation of an object; the object is always empty in a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObjectRelation {
    /// Empty in a model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The relation's name.
    #[serde(default)]
    pub relation: String,
}

/// `computed_userset from tupleset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TupleToUserset {
    /// The relation whose tuples name the objects to go on from.
    pub tupleset: ObjectRelation,
    /// The relation to evaluate there.
    pub computed_userset: ObjectRelation,
}

/// The children of a union or intersection.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Usersets {
    /// Two or more.
    #[serde(default)]
    pub child: Vec<Userset>,
}

/// `base but not subtract`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Who is in.
    pub base: Userset,
    /// Who is out again.
    pub subtract: Userset,
}

/// What a type definition says beside its rewrites.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// By relation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relations: BTreeMap<String, RelationMetadata>,
    /// The module the type is in (schema 1.2).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// The file the type is in (schema 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
}

/// What a relation's definition says beside its rewrite.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RelationMetadata {
    /// Its type restrictions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directly_related_user_types: Vec<RelationReference>,
    /// The module it is in (schema 1.2).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// The file it is in (schema 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
}

/// Where a definition stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Path of the file.
    #[serde(default)]
    pub file: String,
}

/// One type restriction: `user`, `user:*`, `team#member`, each optionally `with condition`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct RelationReference {
    /// The type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// For a userset, its relation. Never together with `wildcard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// Present for a typed wildcard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wildcard: Option<Empty>,
    /// The condition a tuple must be bound to; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
}

/// A condition: a CEL expression over typed parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Condition {
    /// Its name; equal to its key in the model.
    pub name: String,
    /// The CEL expression.
    pub expression: String,
    /// The parameters by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ConditionParameter>,
    /// Where it came from (schema 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ConditionMetadata>,
}

/// Where a condition came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConditionMetadata {
    /// The module.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
}

/// The type of a condition's parameter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConditionParameter {
    /// OpenFGA's enum name, `TYPE_NAME_STRING`.
    pub type_name: String,
    /// The element type of a list or map.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generic_types: Vec<ConditionParameter>,
}
