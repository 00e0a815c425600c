//! Keys that both sides know.

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::{Choice, ConstantTimeEq};

/// Keys of which a caller shows one. Only their digests are kept: all of one length, so that the time a comparison takes
/// tells neither how long a key is nor which one it was.
pub struct SharedKeys(Vec<[u8; SHA256_OUTPUT_LEN]>);

impl SharedKeys {
    pub(crate) fn new<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        Self(keys.filter_map(hash).collect())
    }

    /// Whether it is one of the keys.
    pub(crate) fn accept(&self, shown: &str) -> bool {
        let Some(shown) = hash(shown) else {
            return false;
        };
        let any = |found: Choice, key: &[u8; SHA256_OUTPUT_LEN]| found | key.ct_eq(&shown);
        self.0.iter().fold(Choice::from(0), any).into()
    }
}

fn hash(key: &str) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    digest(&SHA256, key.as_bytes()).as_ref().try_into().ok()
}
