//! The errors clients see: OpenFGA's codes with a message.
//!
//! One enum carries all of upstream's number spaces (`ErrorCode`, `AuthErrorCode`, `InternalErrorCode`, ...), since a
//! code's number alone decides its JSON name, its `grpc-status` and its HTTP status.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)+) => {
        /// An OpenFGA error code. The number goes into `grpc-status`, the name into the JSON body's `code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Code {
            $($(#[$doc])* $variant = $number,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The enum name that stands in the JSON body.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

codes! {
    /// As [`Code::ValidationError`], where upstream has gRPC's own INVALID_ARGUMENT instead of the number.
    InvalidArgument = 3, "validation_error";
    /// A token that is not valid here: its signature, its times, or what it claims.
    InvalidClaims = 1004, "invalid_claims";
    /// A request without a bearer token, where one is needed.
    BearerTokenMissing = 1010, "bearer_token_missing";
    /// A bearer token that nobody was given.
    Unauthenticated = 1500, "unauthenticated";
    /// The request breaks a rule; the message says which.
    ValidationError = 2000, "validation_error";
    /// No model of that id in the store.
    AuthorizationModelNotFound = 2001, "authorization_model_not_found";
    /// The evaluation went deeper than the limit.
    ResolutionTooComplex = 2002, "authorization_model_resolution_too_complex";
    /// A Write that writes and deletes nothing, or otherwise cannot be.
    InvalidWriteInput = 2003, "invalid_write_input";
    /// The same key twice in one Write.
    DuplicateTuplesInRequest = 2004, "cannot_allow_duplicate_tuples_in_one_request";
    /// A token this server did not make, or one of another call.
    InvalidContinuationToken = 2007, "invalid_continuation_token";
    /// An Expand that names no object or no relation.
    InvalidExpandInput = 2010, "invalid_expand_input";
    /// A Write of an existing tuple, or a delete of a missing one.
    WriteFailedDueToInvalidInput = 2017, "write_failed_due_to_invalid_input";
    /// The store has no model yet (or does not exist).
    LatestAuthorizationModelNotFound = 2020, "latest_authorization_model_not_found";
    /// A type the model does not define.
    TypeNotFound = 2021, "type_not_found";
    /// A relation the type does not define.
    RelationNotFound = 2022, "relation_not_found";
    /// A contextual tuple the model does not allow.
    InvalidTuple = 2027, "invalid_tuple";
    /// A page size outside its limits.
    PageSizeInvalid = 2039, "page_size_invalid";
    /// A continuation token used with another type filter than its own.
    TokenTypeMismatch = 2052, "query_string_type_continuation_token_mismatch";
    /// More of something than a request may hold.
    ExceededEntityLimit = 2053, "exceeded_entity_limit";
    /// A model that breaks a rule.
    InvalidAuthorizationModel = 2056, "invalid_authorization_model";
    /// A schema version this server does not speak.
    UnsupportedSchemaVersion = 2057, "unsupported_schema_version";
    /// The caller went away.
    Cancelled = 2058, "cancelled";
    /// ReadChanges from a time that is not in the past.
    InvalidStartTime = 2059, "invalid_start_time";
    /// Our own fault; the details are in the log.
    Internal = 4000, "internal_error";
    /// The request's time was up.
    DeadlineExceeded = 4004, "deadline_exceeded";
    /// A pool or limit of the server is used up; try again.
    ResourceExhausted = 4006, "resource_exhausted";
    /// A setting that this call needs is missing.
    FailedPrecondition = 4007, "failed_precondition";
    /// Another writer was quicker; try again.
    Aborted = 4008, "Aborted";
    /// A part of the system that this call needs is away; try again.
    Unavailable = 4010, "unavailable";
    /// No such route.
    UndefinedEndpoint = 5000, "undefined_endpoint";
    /// No such store.
    StoreIdNotFound = 5002, "store_id_not_found";
    /// Not implemented.
    Unimplemented = 5004, "unimplemented";
}

impl Code {
    /// The number that stands in `grpc-status`.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The code of a number, as when an upstream node reports it.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| u32::from(code.number()) == number)
    }

    /// The HTTP status, by the number's range (openfga.v1: 1000s 401, 2000-3499 400, 3500s 422, 4000s 500, 5000s 404).
    /// Two go beyond upstream, whose 4000s are all 500: what is worth a retry says so to proxies, as 429 and 503.
    pub fn http_status(self) -> u16 {
        match self {
            Self::ResourceExhausted => 429,
            Self::Unavailable => 503,
            Self::Aborted => 409,
            Self::InvalidArgument => 400,
            _ => match self.number() {
                1000..=1999 => 401,
                2000..=3499 => 400,
                3500..=3999 => 422,
                5000.. => 404,
                _ => 500,
            },
        }
    }
}

/// An error a client sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ApiError {
    /// Which.
    pub code: Code,
    /// What, naming the field, the value and the remedy.
    pub message: String,
}

impl ApiError {
    /// An error of a code with a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The most common one: a rule of the request is broken.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(Code::ValidationError, message)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}): {}",
            self.code.name(),
            self.code.number(),
            self.message
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(u32::from(code.number())), Some(*code));
        }
        assert_eq!(Code::from_number(7), None);
    }

    #[test]
    fn http_status_follows_the_range() {
        assert_eq!(Code::BearerTokenMissing.http_status(), 401);
        assert_eq!(Code::ValidationError.http_status(), 400);
        assert_eq!(Code::InvalidArgument.http_status(), 400);
        assert_eq!(Code::Internal.http_status(), 500);
        assert_eq!(Code::StoreIdNotFound.http_status(), 404);
        assert_eq!(Code::Aborted.http_status(), 409);
    }
}
