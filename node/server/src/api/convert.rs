//! Between wire messages and the model's types. Wire types stop here.

use std::sync::Arc;

use meridian_model::authorization_model::{
    AuthorizationModel, Condition, ConditionMetadata, ConditionParameter, Difference, Empty,
    Metadata, ObjectRelation, RelationMetadata, RelationReference, SourceInfo, TupleToUserset,
    TypeDefinition, Userset, Usersets,
};
use meridian_model::tuple::TupleCondition;
use meridian_model::{ApiError, Code, Timestamp, TupleKey};
use meridian_proto::google::{self, Struct, struct_from_json, struct_to_json};
use meridian_proto::openfga::v1;

/// A message on the wire that cannot stand for anything: a part that its kind requires is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A rewrite that is none of the kinds.
    #[error(
        "the definition of relation '{relation}' in object type '{object_type}' is invalid: invalid userset rewrite definition"
    )]
    Rewrite {
        /// The type that defines it.
        object_type: String,
        /// The relation.
        relation: String,
    },
    /// A parameter type of a condition that is none of the known.
    #[error("condition '{condition}' has a parameter '{parameter}' of an unknown type {number}")]
    ParameterType {
        /// The condition.
        condition: String,
        /// Its parameter.
        parameter: String,
        /// The unknown number.
        number: i32,
    },
}

impl From<Malformed> for ApiError {
    fn from(why: Malformed) -> Self {
        Self::new(Code::InvalidAuthorizationModel, why.to_string())
    }
}

/// A time on the wire.
pub fn timestamp_to_wire(at: Timestamp) -> google::Timestamp {
    const MICROS: i64 = 1_000_000;
    google::Timestamp {
        seconds: at.0.div_euclid(MICROS),
        nanos: i32::try_from(at.0.rem_euclid(MICROS) * 1000).unwrap_or(0),
    }
}

/// A time from the wire, cut to microseconds.
pub fn timestamp_from_wire(at: &google::Timestamp) -> Timestamp {
    Timestamp(
        at.seconds
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(at.nanos / 1000)),
    )
}

/// A tuple on the wire.
pub fn tuple_key_to_wire(key: &TupleKey, condition: Option<&TupleCondition>) -> v1::TupleKey {
    v1::TupleKey {
        user: key.subject.to_string(),
        relation: key.relation.to_string(),
        object: key.object.to_string(),
        condition: condition.map(|condition| v1::RelationshipCondition {
            name: condition.name.to_string(),
            context: context_to_wire(&condition.context),
        }),
    }
}

/// The condition that a tuple on the wire is bound to.
pub fn condition_of_wire(key: &v1::TupleKey) -> Option<TupleCondition> {
    let condition = key
        .condition
        .as_ref()
        .filter(|condition| !condition.name.is_empty())?;
    let context = context_from_wire(condition.context.as_ref());
    Some(TupleCondition {
        name: condition.name.as_str().into(),
        context,
    })
}

/// A stored context was written by [`condition_of_wire`]; anything else shows as no context.
fn context_to_wire(context: &str) -> Option<Struct> {
    serde_json::from_str(context).ok().map(struct_from_json)
}

fn context_from_wire(context: Option<&Struct>) -> Arc<str> {
    let object = context.map(struct_to_json).unwrap_or_default();
    serde_json::Value::Object(object).to_string().into()
}

/// A model from a WriteAuthorizationModel.
///
/// # Errors
/// [`Malformed`] where a part is missing that no rule could speak of.
pub fn model_from_wire(
    request: v1::WriteAuthorizationModelRequest,
) -> Result<AuthorizationModel, Malformed> {
    Ok(AuthorizationModel {
        schema_version: request.schema_version,
        type_definitions: request
            .type_definitions
            .into_iter()
            .map(type_from_wire)
            .collect::<Result<_, _>>()?,
        conditions: request
            .conditions
            .into_iter()
            .map(|(key, condition)| Ok((key, condition_from_wire(condition)?)))
            .collect::<Result<_, _>>()?,
    })
}

/// A model on the wire.
pub fn model_to_wire(id: &str, model: &AuthorizationModel) -> v1::AuthorizationModel {
    v1::AuthorizationModel {
        id: id.to_owned(),
        schema_version: model.schema_version.clone(),
        type_definitions: model.type_definitions.iter().map(type_to_wire).collect(),
        conditions: model
            .conditions
            .iter()
            .map(|(key, condition)| (key.clone(), condition_to_wire(condition)))
            .collect(),
    }
}

/// The request that writes a model.
pub fn write_model_request(
    store_id: &str,
    model: &AuthorizationModel,
) -> v1::WriteAuthorizationModelRequest {
    let wire = model_to_wire("", model);
    v1::WriteAuthorizationModelRequest {
        store_id: store_id.to_owned(),
        type_definitions: wire.type_definitions,
        schema_version: wire.schema_version,
        conditions: wire.conditions,
    }
}

fn type_from_wire(definition: v1::TypeDefinition) -> Result<TypeDefinition, Malformed> {
    let object_type = definition.r#type;
    let mut relations = std::collections::BTreeMap::new();
    for (relation, rewrite) in definition.relations {
        let Some(rewrite) = rewrite_from_wire(rewrite) else {
            return Err(Malformed::Rewrite {
                object_type,
                relation,
            });
        };
        relations.insert(relation, rewrite);
    }
    Ok(TypeDefinition {
        name: object_type,
        relations,
        metadata: definition.metadata.map(metadata_from_wire),
    })
}

fn type_to_wire(definition: &TypeDefinition) -> v1::TypeDefinition {
    v1::TypeDefinition {
        r#type: definition.name.clone(),
        relations: definition
            .relations
            .iter()
            .map(|(name, rewrite)| (name.clone(), rewrite_to_wire(rewrite)))
            .collect(),
        metadata: definition.metadata.as_ref().map(metadata_to_wire),
    }
}

fn rewrite_from_wire(rewrite: v1::Userset) -> Option<Userset> {
    use v1::userset::Userset as Wire;
    let children = |of: v1::Usersets| {
        Some(Usersets {
            child: of
                .child
                .into_iter()
                .map(rewrite_from_wire)
                .collect::<Option<_>>()?,
        })
    };
    let boxed = |of: Option<Box<v1::Userset>>| rewrite_from_wire(*of?);
    Some(match rewrite.userset? {
        Wire::This(_) => Userset::This(Empty {}),
        Wire::ComputedUserset(of) => Userset::ComputedUserset(object_relation_from_wire(of)),
        Wire::TupleToUserset(of) => Userset::TupleToUserset(TupleToUserset {
            tupleset: object_relation_from_wire(of.tupleset?),
            computed_userset: object_relation_from_wire(of.computed_userset?),
        }),
        Wire::Union(of) => Userset::Union(children(of)?),
        Wire::Intersection(of) => Userset::Intersection(children(of)?),
        Wire::Difference(of) => Userset::Difference(Box::new(Difference {
            base: boxed(of.base)?,
            subtract: boxed(of.subtract)?,
        })),
    })
}

fn rewrite_to_wire(rewrite: &Userset) -> v1::Userset {
    use v1::userset::Userset as Wire;
    let children = |of: &Usersets| v1::Usersets {
        child: of.child.iter().map(rewrite_to_wire).collect(),
    };
    let boxed = |of: &Userset| Some(Box::new(rewrite_to_wire(of)));
    let wire = match rewrite {
        Userset::This(_) => Wire::This(v1::DirectUserset {}),
        Userset::ComputedUserset(of) => Wire::ComputedUserset(object_relation_to_wire(of)),
        Userset::TupleToUserset(of) => Wire::TupleToUserset(v1::TupleToUserset {
            tupleset: Some(object_relation_to_wire(&of.tupleset)),
            computed_userset: Some(object_relation_to_wire(&of.computed_userset)),
        }),
        Userset::Union(of) => Wire::Union(children(of)),
        Userset::Intersection(of) => Wire::Intersection(children(of)),
        Userset::Difference(of) => Wire::Difference(Box::new(v1::Difference {
            base: boxed(&of.base),
            subtract: boxed(&of.subtract),
        })),
    };
    v1::Userset {
        userset: Some(wire),
    }
}

fn object_relation_from_wire(of: v1::ObjectRelation) -> ObjectRelation {
    ObjectRelation {
        object: of.object,
        relation: of.relation,
    }
}

fn object_relation_to_wire(of: &ObjectRelation) -> v1::ObjectRelation {
    v1::ObjectRelation {
        object: of.object.clone(),
        relation: of.relation.clone(),
    }
}

fn metadata_from_wire(metadata: v1::Metadata) -> Metadata {
    let relation = |of: v1::RelationMetadata| RelationMetadata {
        directly_related_user_types: of
            .directly_related_user_types
            .into_iter()
            .map(reference_from_wire)
            .collect(),
        module: of.module,
        source_info: of.source_info.map(source_from_wire),
    };
    Metadata {
        relations: metadata
            .relations
            .into_iter()
            .map(|(name, of)| (name, relation(of)))
            .collect(),
        module: metadata.module,
        source_info: metadata.source_info.map(source_from_wire),
    }
}

fn metadata_to_wire(metadata: &Metadata) -> v1::Metadata {
    let relation = |of: &RelationMetadata| v1::RelationMetadata {
        directly_related_user_types: of
            .directly_related_user_types
            .iter()
            .map(reference_to_wire)
            .collect(),
        module: of.module.clone(),
        source_info: of.source_info.as_ref().map(source_to_wire),
    };
    v1::Metadata {
        relations: metadata
            .relations
            .iter()
            .map(|(name, of)| (name.clone(), relation(of)))
            .collect(),
        module: metadata.module.clone(),
        source_info: metadata.source_info.as_ref().map(source_to_wire),
    }
}

fn reference_from_wire(reference: v1::RelationReference) -> RelationReference {
    use v1::relation_reference::RelationOrWildcard as Wire;
    let (relation, wildcard) = match reference.relation_or_wildcard {
        Some(Wire::Relation(relation)) => (Some(relation), None),
        Some(Wire::Wildcard(_)) => (None, Some(Empty {})),
        _ => (None, None),
    };
    RelationReference {
        type_name: reference.r#type,
        relation,
        wildcard,
        condition: reference.condition,
    }
}

fn reference_to_wire(reference: &RelationReference) -> v1::RelationReference {
    use v1::relation_reference::RelationOrWildcard as Wire;
    let relation = reference.relation.clone().map(Wire::Relation);
    v1::RelationReference {
        r#type: reference.type_name.clone(),
        relation_or_wildcard: relation
            .or_else(|| reference.wildcard.map(|_| Wire::Wildcard(v1::Wildcard {}))),
        condition: reference.condition.clone(),
    }
}

fn condition_from_wire(condition: v1::Condition) -> Result<Condition, Malformed> {
    let mut parameters = std::collections::BTreeMap::new();
    for (name, parameter) in condition.parameters {
        let parameter =
            parameter_from_wire(parameter).map_err(|number| Malformed::ParameterType {
                condition: condition.name.clone(),
                parameter: name.clone(),
                number,
            })?;
        parameters.insert(name, parameter);
    }
    let metadata = condition.metadata.map(|of| ConditionMetadata {
        module: of.module,
        source_info: of.source_info.map(source_from_wire),
    });
    Ok(Condition {
        name: condition.name,
        expression: condition.expression,
        parameters,
        metadata,
    })
}

fn condition_to_wire(condition: &Condition) -> v1::Condition {
    v1::Condition {
        name: condition.name.clone(),
        expression: condition.expression.clone(),
        parameters: condition
            .parameters
            .iter()
            .map(|(name, parameter)| (name.clone(), parameter_to_wire(parameter)))
            .collect(),
        metadata: condition.metadata.as_ref().map(|of| v1::ConditionMetadata {
            module: of.module.clone(),
            source_info: of.source_info.as_ref().map(source_to_wire),
        }),
    }
}

/// The number of an unknown type is the error.
fn parameter_from_wire(parameter: v1::ConditionParamTypeRef) -> Result<ConditionParameter, i32> {
    let name = v1::condition_param_type_ref::TypeName::try_from(parameter.type_name)
        .map_err(|_| parameter.type_name)?;
    let generic_types = parameter
        .generic_types
        .into_iter()
        .map(parameter_from_wire)
        .collect::<Result<_, _>>()?;
    Ok(ConditionParameter {
        type_name: name.as_str_name().to_owned(),
        generic_types,
    })
}

fn parameter_to_wire(parameter: &ConditionParameter) -> v1::ConditionParamTypeRef {
    let name = v1::condition_param_type_ref::TypeName::from_str_name(&parameter.type_name);
    v1::ConditionParamTypeRef {
        type_name: name.unwrap_or_default().into(),
        generic_types: parameter
            .generic_types
            .iter()
            .map(parameter_to_wire)
            .collect(),
    }
}

fn source_from_wire(source: v1::SourceInfo) -> SourceInfo {
    SourceInfo { file: source.file }
}

fn source_to_wire(source: &SourceInfo) -> v1::SourceInfo {
    v1::SourceInfo {
        file: source.file.clone(),
    }
}
