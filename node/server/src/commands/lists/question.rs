//! What a listing asks, checked by the model.

use meridian_condition::Context as Values;
use meridian_engine::User;
use meridian_model::{ApiError, Code, Tuple, TypeSystem};
use meridian_proto::google::struct_to_json;
use meridian_proto::openfga::v1;

use crate::commands::check::contextual;
use crate::limits::{Limits, ListLimits};

/// A listing to be made.
pub(crate) trait Question: Send + Sync {
    /// The model it is asked under; empty for the latest.
    fn model_id(&self) -> &str;

    /// What it may take.
    fn limits(&self, all: &Limits) -> ListLimits;

    /// Checks it by the model, and begins it.
    ///
    /// # Errors
    /// What of it the model does not allow.
    fn begin(&self, types: &TypeSystem) -> Result<Begun, ApiError>;
}

/// A listing that the model allows.
pub(crate) struct Begun {
    pub(super) what: What,
    pub(super) contextual: Vec<Tuple>,
    pub(super) context: Values,
}

/// What is listed.
pub(super) enum What {
    Objects {
        object_type: String,
        relation: String,
        user: String,
    },
    Users {
        object: String,
        relation: String,
        filter: (String, Option<String>),
    },
}

impl What {
    /// Whom, or what object, it is asked about.
    pub(super) fn asked(&self) -> &str {
        match self {
            Self::Objects { user, .. } => user,
            Self::Users { object, .. } => object,
        }
    }
}

impl Question for v1::ListObjectsRequest {
    fn model_id(&self) -> &str {
        &self.authorization_model_id
    }

    fn limits(&self, all: &Limits) -> ListLimits {
        all.list_objects()
    }

    fn begin(&self, types: &TypeSystem) -> Result<Begun, ApiError> {
        known_relation(types, &self.r#type, &self.relation)?;
        let given = self.contextual_tuples.as_ref();
        let contextual = contextual(types, given.map_or(&[][..], |tuples| &tuples.tuple_keys))?;
        known_user(types, &self.user)?;
        Ok(Begun {
            what: What::Objects {
                object_type: self.r#type.clone(),
                relation: self.relation.clone(),
                user: self.user.clone(),
            },
            contextual,
            context: self
                .context
                .as_ref()
                .map(struct_to_json)
                .unwrap_or_default(),
        })
    }
}

impl Question for v1::ListUsersRequest {
    fn model_id(&self) -> &str {
        &self.authorization_model_id
    }

    fn limits(&self, all: &Limits) -> ListLimits {
        all.list_users()
    }

    fn begin(&self, types: &TypeSystem) -> Result<Begun, ApiError> {
        let object = self.object.clone().unwrap_or_default();
        let [filter] = &*self.user_filters else {
            return Err(ApiError::validation(
                "user_filters: exactly one is required",
            ));
        };
        known_relation(types, &object.r#type, &self.relation)?;
        if filter.relation.is_empty() {
            known_type(types, &filter.r#type)?;
        } else {
            known_relation(types, &filter.r#type, &filter.relation)?;
        }
        let contextual = contextual(types, &self.contextual_tuples)?;
        let relation = Some(filter.relation.clone()).filter(|relation| !relation.is_empty());
        Ok(Begun {
            what: What::Users {
                object: format!("{}:{}", object.r#type, object.id),
                relation: self.relation.clone(),
                filter: (filter.r#type.clone(), relation),
            },
            contextual,
            context: self
                .context
                .as_ref()
                .map(struct_to_json)
                .unwrap_or_default(),
        })
    }
}

fn known_type(types: &TypeSystem, object_type: &str) -> Result<(), ApiError> {
    if types.has_type(object_type) {
        return Ok(());
    }
    Err(ApiError::new(
        Code::TypeNotFound,
        format!("type '{object_type}' not found"),
    ))
}

fn known_relation(types: &TypeSystem, object_type: &str, relation: &str) -> Result<(), ApiError> {
    known_type(types, object_type)?;
    if types.relation(object_type, relation).is_some() {
        return Ok(());
    }
    Err(ApiError::new(
        Code::RelationNotFound,
        format!("relation '{object_type}#{relation}' not found"),
    ))
}

fn known_user(types: &TypeSystem, user: &str) -> Result<(), ApiError> {
    let invalid = |why: &dyn std::fmt::Display| {
        ApiError::validation(format!("invalid 'user' value: '{user}': {why}"))
    };
    let user = User::parse(user).map_err(|why| invalid(&why))?;
    if !types.has_type(user.object_type()) {
        return Err(invalid(&format_args!(
            "type '{}' not found",
            user.object_type()
        )));
    }
    match user.userset() {
        Some((_, relation)) if types.relation(user.object_type(), relation).is_none() => {
            Err(invalid(&format_args!(
                "relation '{}#{relation}' not found",
                user.object_type()
            )))
        }
        _ => Ok(()),
    }
}
