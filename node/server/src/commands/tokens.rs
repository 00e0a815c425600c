//! Continuation tokens: opaque to clients, typed and versioned inside, so that a token of another call, another
//! version or somebody's fancy is refused instead of misread.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use meridian_model::ports::ChangeCursor;
use meridian_model::{ApiError, Code, ModelId, Revision, StoreId, TupleKey};
use serde::{Deserialize, Serialize};

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Token {
    /// ListStores, behind a store.
    #[serde(rename = "stores.1")]
    Stores(StoreId),
    /// ReadAuthorizationModels, before a model.
    #[serde(rename = "models.1")]
    Models(ModelId),
    /// Read, behind a tuple.
    #[serde(rename = "tuples.1")]
    Tuples(TupleKey),
    /// ReadChanges, behind a change; with the type filter it was made for.
    #[serde(rename = "changes.1")]
    Changes {
        revision: Revision,
        ordinal: u32,
        object_type: String,
    },
}

pub(super) fn stores(after: StoreId) -> String {
    encode(&Token::Stores(after))
}

pub(super) fn read_stores(token: &str) -> Result<Option<StoreId>, ApiError> {
    read(token, |token| {
        if let Token::Stores(after) = token {
            Some(after)
        } else {
            None
        }
    })
}

pub(super) fn models(before: ModelId) -> String {
    encode(&Token::Models(before))
}

pub(super) fn read_models(token: &str) -> Result<Option<ModelId>, ApiError> {
    read(token, |token| {
        if let Token::Models(before) = token {
            Some(before)
        } else {
            None
        }
    })
}

pub(super) fn tuples(after: TupleKey) -> String {
    encode(&Token::Tuples(after))
}

pub(super) fn read_tuples(token: &str) -> Result<Option<TupleKey>, ApiError> {
    read(token, |token| {
        if let Token::Tuples(after) = token {
            Some(after)
        } else {
            None
        }
    })
}

pub(super) fn changes(after: ChangeCursor, object_type: &str) -> String {
    encode(&Token::Changes {
        revision: after.revision,
        ordinal: after.ordinal,
        object_type: object_type.to_owned(),
    })
}

pub(super) fn read_changes(
    token: &str,
    asked_type: &str,
) -> Result<Option<ChangeCursor>, ApiError> {
    let Some((cursor, object_type)) = read(token, |token| match token {
        Token::Changes {
            revision,
            ordinal,
            object_type,
        } => Some((ChangeCursor { revision, ordinal }, object_type)),
        _ => None,
    })?
    else {
        return Ok(None);
    };
    if object_type != asked_type {
        return Err(ApiError::new(
            Code::TokenTypeMismatch,
            "The type in the querystring and the continuation token don't match",
        ));
    }
    Ok(Some(cursor))
}

fn encode(token: &Token) -> String {
    // Serializing these plain shapes cannot fail; an empty token would only start the listing over.
    serde_json::to_vec(token)
        .map(|bytes| URL_SAFE.encode(bytes))
        .unwrap_or_default()
}

/// `None` for an empty token, which starts at the beginning.
fn read<T>(text: &str, pick: impl FnOnce(Token) -> Option<T>) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE.decode(text).ok();
    let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match token.and_then(pick) {
        Some(cursor) => Ok(Some(cursor)),
        None => Err(ApiError::new(
            Code::InvalidContinuationToken,
            "Invalid continuation token",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_refuse_other_calls() {
        let key = TupleKey::parse("repo:a/ü", "owner", "team:x#member").unwrap();
        let token = tuples(key.clone());
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)),
            "{token}"
        );
        assert_eq!(read_tuples(&token), Ok(Some(key)));
        assert_eq!(
            read_models(&token).unwrap_err().code,
            Code::InvalidContinuationToken
        );
        assert_eq!(
            read_tuples("abcd").unwrap_err().code,
            Code::InvalidContinuationToken
        );
        assert_eq!(read_tuples(""), Ok(None));
    }

    #[test]
    fn a_changes_token_holds_for_its_type_only() {
        let cursor = ChangeCursor {
            revision: Revision(7),
            ordinal: 3,
        };
        let token = changes(cursor, "repo");
        assert_eq!(read_changes(&token, "repo"), Ok(Some(cursor)));
        assert_eq!(
            read_changes(&token, "").unwrap_err().code,
            Code::TokenTypeMismatch
        );
    }
}
