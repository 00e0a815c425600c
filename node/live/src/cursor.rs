//! Positions that clients are given, to go on from after a break.
//!
//! What a client gets belongs to several partitions: an organization's records are keyed by their own objects. So a position
//! says of every partition up to where the node had read it; with it any other node knows what came after, in whatever order it
//! read the partitions itself. It is nobody's secret, and clients need not read it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use xxhash_rust::xxh3::Xxh3;

use crate::record::Place;

const VERSION: u8 = 1;
/// Longest position that is read, in bytes.
const MAX_LEN: usize = 16 * 1024;

/// Up to where the partitions of one topic were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Hash of cluster and topic: offsets mean nothing elsewhere.
    pub(crate) topic: u64,
    /// The next offset of each partition.
    pub(crate) next: Vec<i64>,
}

/// What names a topic of a cluster.
pub(crate) fn topic_hash(cluster: &str, topic: &str) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(cluster.as_bytes());
    hasher.update(b"\0");
    hasher.update(topic.as_bytes());
    hasher.digest()
}

impl Cursor {
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(9 + self.next.len() * 4);
        bytes.push(VERSION);
        bytes.extend(self.topic.to_be_bytes());
        for offset in &self.next {
            write_number(&mut bytes, u64::try_from(*offset).unwrap_or_default());
        }
        BASE64.encode(bytes)
    }

    /// Whether all of `there` was read here, being of the same topic.
    pub(crate) fn covers(&self, there: &Self) -> bool {
        self.is_comparable(there) && self.offsets(there).all(|(here, there)| there <= here)
    }

    /// Whether it is of the same topic, and some of it was not read here yet.
    pub(crate) fn is_short_of(&self, there: &Self) -> bool {
        self.is_comparable(there) && self.offsets(there).any(|(here, there)| there > here)
    }

    /// What was read of either, both being of the same topic.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let next = self.offsets(other).map(|(one, other)| *one.max(other));
        Self {
            topic: self.topic,
            next: next.collect(),
        }
    }

    /// The same, without what was read of a partition from a record on.
    pub(crate) fn before(&self, place: Place) -> Self {
        let mut before = self.clone();
        if let Some(next) = before.next.get_mut(place.partition) {
            *next = (*next).min(place.offset);
        }
        before
    }

    fn is_comparable(&self, other: &Self) -> bool {
        self.topic == other.topic && self.next.len() == other.next.len()
    }

    fn offsets<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a i64, &'a i64)> {
        self.next.iter().zip(&other.next)
    }

    /// `None` for what is no position of this form.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let bytes = BASE64.decode(text).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (topic, mut rest) = rest.split_first_chunk::<8>()?;
        if *version != VERSION {
            return None;
        }
        let mut next = Vec::new();
        while !rest.is_empty() {
            next.push(i64::try_from(read_number(&mut rest)?).ok()?);
        }
        Some(Self {
            topic: u64::from_be_bytes(*topic),
            next,
        })
    }
}

/// Seven bits a byte, the lowest first.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0_u32);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(topic: u64, next in prop::collection::vec(0..i64::MAX, 0..20)) {
            let cursor = Cursor { topic, next };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn anything_may_come(text: String, bytes: Vec<u8>) {
            let _ = Cursor::decode(&text);
            let _ = Cursor::decode(&BASE64.encode(bytes));
        }
    }
}
