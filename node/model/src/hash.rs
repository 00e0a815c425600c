//! The 64-bit hashes by which a change names what it touched without carrying it.
//!
//! They travel on edge topics and in upstream answers, between nodes of different builds, so the function is fixed:
//! XXH3-64 over the bytes of `type:id#relation` (a set) or of the bare type name (a type). A collision can only end a
//! kept answer too early, never keep a stale one.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::tuple::Object;

/// Hash of the set `object#relation`.
pub fn set_hash(object: &Object, relation: &str) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(object.as_str().as_bytes());
    hasher.update(b"#");
    hasher.update(relation.as_bytes());
    hasher.digest()
}

/// Hash of an object type: what an answer names instead of its sets when it read too many of them.
pub fn type_hash(object_type: &str) -> u64 {
    xxh3_64(object_type.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_text() {
        let object: Object = "repo:core".parse().unwrap();
        assert_eq!(set_hash(&object, "admin"), xxh3_64(b"repo:core#admin"));
        // Fixed for ever: other builds compare with it.
        assert_eq!(type_hash("repo"), xxh3_64(b"repo"));
        assert_ne!(type_hash("repo"), set_hash(&object, "admin"));
    }
}
