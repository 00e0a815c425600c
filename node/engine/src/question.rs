//! One question, parsed without allocating.

use meridian_model::tuple::{
    InvalidTuple, MAX_OBJECT_LEN, MAX_RELATION_LEN, MAX_USER_LEN, TupleKey, is_name, split_object,
};
use meridian_model::{Object, Subject};

/// Whom a question is about: an object, a typed wildcard or a userset. Borrowed from the request, well-formed, not yet looked
/// up anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User<'a> {
    text: &'a str,
    object_type: &'a str,
    /// For a userset, its object and relation.
    userset: Option<(&'a str, &'a str)>,
    wildcard: bool,
}

impl<'a> User<'a> {
    /// Parses a user, which is bounded as a tuple's is.
    ///
    /// # Errors
    /// [`InvalidTuple`] when it is malformed or too long.
    pub fn parse(user: &'a str) -> Result<Self, InvalidTuple> {
        if user.len() > MAX_USER_LEN {
            return Err(InvalidTuple::LongUser(user.len()));
        }
        let malformed = || InvalidTuple::User(user.to_owned());
        let userset = match user.split_once('#') {
            Some((of, relation)) if is_name(relation, MAX_RELATION_LEN) => Some((of, relation)),
            Some(_) => return Err(malformed()),
            None => None,
        };
        let (object_type, id) =
            split_object(userset.map_or(user, |(of, _)| of)).ok_or_else(malformed)?;
        let wildcard = id == "*";
        if wildcard && userset.is_some() {
            return Err(malformed());
        }
        Ok(Self {
            text: user,
            object_type,
            userset,
            wildcard,
        })
    }

    /// The user as asked.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The type of its object.
    pub fn object_type(&self) -> &'a str {
        self.object_type
    }

    /// For a userset, its object and relation.
    pub fn userset(&self) -> Option<(&'a str, &'a str)> {
        self.userset
    }

    /// Whether it is a typed wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }
}

/// Has the user the relation to the object? Borrowed from the request, well-formed, not yet looked up anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    object: &'a str,
    object_type: &'a str,
    relation: &'a str,
    user: User<'a>,
}

impl<'a> Question<'a> {
    /// Parses the three fields of a Check, which are bounded as a tuple's are.
    ///
    /// # Errors
    /// [`InvalidTuple`] naming the first malformed field: user, relation, object.
    pub fn parse(object: &'a str, relation: &'a str, user: &'a str) -> Result<Self, InvalidTuple> {
        let user = User::parse(user)?;
        if !is_name(relation, MAX_RELATION_LEN) {
            return Err(InvalidTuple::Relation(relation.to_owned()));
        }
        if object.len() > MAX_OBJECT_LEN {
            return Err(InvalidTuple::LongObject(object.len()));
        }
        match split_object(object) {
            None => Err(InvalidTuple::Object(object.to_owned())),
            Some((_, "*")) => Err(InvalidTuple::WildcardObject(object.to_owned())),
            Some((object_type, _)) => Ok(Self {
                object,
                object_type,
                relation,
                user,
            }),
        }
    }

    /// The asked object, `type:id`.
    pub fn object(&self) -> &'a str {
        self.object
    }

    /// Its type.
    pub fn object_type(&self) -> &'a str {
        self.object_type
    }

    /// The asked relation.
    pub fn relation(&self) -> &'a str {
        self.relation
    }

    /// The asked user.
    pub fn user(&self) -> &User<'a> {
        &self.user
    }

    /// The question as owned values.
    ///
    /// # Errors
    /// None in practice: the parts were parsed by the same rules.
    pub fn to_key(&self) -> Result<TupleKey, InvalidTuple> {
        let object: Object = self.object.parse()?;
        let subject: Subject = self.user.text.parse()?;
        Ok(TupleKey {
            object,
            relation: self.relation.into(),
            subject,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn accepts_what_a_tuple_key_accepts(object in ".{0,8}|[a-z]{1,3}:[a-z*#]{1,3}", relation in ".{0,4}|[a-z]{1,4}", user in ".{0,8}|[a-z]{1,2}:[a-z*]{1,2}(#[a-z]{1,2})?") {
            let question = Question::parse(&object, &relation, &user);
            let key = TupleKey::parse(&object, &relation, &user);
            prop_assert_eq!(question.map(|q| q.to_key().unwrap()), key);
        }
    }

    #[test]
    fn is_bounded_as_a_tuple_is() {
        let text = |prefix: &str, len: usize| format!("{prefix}{}", "x".repeat(len - prefix.len()));
        for object_len in [MAX_OBJECT_LEN, MAX_OBJECT_LEN + 1, MAX_USER_LEN + 1] {
            for user_len in [MAX_USER_LEN, MAX_USER_LEN + 1] {
                for relation_len in [MAX_RELATION_LEN, MAX_RELATION_LEN + 1] {
                    let (object, relation) = (text("doc:", object_len), text("r", relation_len));
                    let user = text("user:", user_len);
                    let question = Question::parse(&object, &relation, &user);
                    let key = TupleKey::parse(&object, &relation, &user);
                    assert_eq!(question.map(|q| q.to_key().unwrap()), key);
                }
            }
        }
    }
}
