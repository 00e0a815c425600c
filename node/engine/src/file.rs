//! The snapshot file of a view.
//!
//! `MERIDIAN VIEW 2\n`, the body, and the XXH3-64 of all before it. Numbers are little-endian; texts are a `u32` length
//! and UTF-8; lists are a `u32` count and their items. The body: position, metadata, deleted flag, tiers and models
//! (as JSON), type and relation names, the names in use in the order of their new numbers with their types, the covered
//! types, then each set: object, relation, objects, usersets; then each conditioned member: its set, its subject (0 and an
//! object, or 1 and a set), the condition's name and context.
//!
//! A file that is cut short, damaged, or of another version is refused whole.

use std::collections::BTreeMap;

use meridian_model::change::{StoreInfo, StoredModel};
use meridian_model::{AuthorizationModel, Position, Tiers, Timestamp, TupleCondition};
use xxhash_rust::xxh3::xxh3_64;

use crate::bound::Binding;
use crate::facts::{ObjectId, SetKey};
use crate::names::Names;
use crate::sets::Subject;
use crate::symbols::{RelationId, TypeId};
use crate::view::{Root, View};

const MAGIC: &[u8] = b"MERIDIAN VIEW 2\n";

/// Why a file is not a view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableFile {
    /// Another kind or version of file.
    #[error("is not a view of this version")]
    Version,
    /// The checksum does not fit: cut short or damaged.
    #[error("is cut short or damaged")]
    Checksum,
    /// The content breaks a rule of the format.
    #[error("holds an invalid {0}")]
    Content(&'static str),
}

pub(crate) fn write(root: &Root) -> Vec<u8> {
    let mut out = Writer(MAGIC.to_vec());
    out.u64(root.position.epoch.0);
    out.u64(root.position.revision.0);
    out.list(root.info.iter(), |out, info| {
        out.text(info.id.as_str());
        out.text(&info.name);
        out.u64(info.created_at.0.cast_unsigned());
    });
    out.u32(u32::from(root.deleted));
    out.json(&*root.tiers);
    out.list(root.models.values(), |out, model| {
        out.text(model.stored.id.as_str());
        out.json(&*model.stored.model);
    });
    out.list(root.symbols.type_names().iter(), |out, name| out.text(name));
    out.list(root.symbols.relation_names().iter(), |out, name| {
        out.text(name)
    });

    let mut numbers = BTreeMap::new();
    for (set, subject, _) in root.members() {
        numbers.insert(set.object(), 0);
        numbers.insert(subject.object(), 0);
    }
    numbers
        .values_mut()
        .zip(0_u32..)
        .for_each(|(number, next)| *number = next);
    out.list(numbers.keys(), |out, id| {
        out.text(root.names.text(*id));
        out.u32(
            root.names
                .type_of(*id)
                .map_or(u32::MAX, |id| u32::from(id.0)),
        );
    });
    let number = |id: ObjectId| numbers.get(&id).copied().unwrap_or(u32::MAX);
    out.list(root.covered.iter(), |out, id| out.u32(u32::from(id.0)));
    let sets: Vec<_> = root.sets.iter().collect();
    out.list(sets.iter(), |out, (key, set)| {
        out.u32(number(key.object()));
        out.u32(u32::from(key.relation().0));
        let objects: Vec<_> = set.objects.iter().collect();
        out.list(objects.iter(), |out, id| out.u32(number(*id)));
        let usersets: Vec<_> = set.usersets.iter().collect();
        out.list(usersets.iter(), |out, of| {
            out.u32(number(of.object()));
            out.u32(u32::from(of.relation().0));
        });
    });
    let bound: Vec<_> = root
        .members()
        .filter(|(.., bound)| bound.is_some())
        .collect();
    out.list(bound.iter(), |out, (set, subject, binding)| {
        out.u32(number(set.object()));
        out.u32(u32::from(set.relation().0));
        match subject {
            Subject::Object(id) => {
                out.u32(0);
                out.u32(number(*id));
            }
            Subject::Userset(of) => {
                out.u32(1);
                out.u32(number(of.object()));
                out.u32(u32::from(of.relation().0));
            }
        }
        let condition = binding.iter().map(|binding| binding.stored());
        condition.for_each(|condition| {
            out.text(&condition.name);
            out.text(&condition.context);
        });
    });
    let checksum = xxh3_64(&out.0);
    out.u64(checksum);
    out.0
}

pub(crate) fn read(content: &[u8]) -> Result<Root, UnreadableFile> {
    let rest = content.strip_prefix(MAGIC).ok_or(UnreadableFile::Version)?;
    let (body, checksum) = rest
        .split_last_chunk::<8>()
        .ok_or(UnreadableFile::Checksum)?;
    let sealed = content.get(..content.len() - 8).unwrap_or_default();
    if xxh3_64(sealed) != u64::from_le_bytes(*checksum) {
        return Err(UnreadableFile::Checksum);
    }
    let mut input = Reader(body);
    let mut root = View::new(Position::new(input.u64()?, input.u64()?)).into_root();
    for _ in 0..input.u32()? {
        let id = input
            .text()?
            .parse()
            .map_err(|_| UnreadableFile::Content("store id"))?;
        let name = input.text()?.to_owned();
        root.info = Some(StoreInfo {
            id,
            name,
            created_at: Timestamp(input.u64()?.cast_signed()),
        });
    }
    root.deleted = input.u32()? != 0;
    root.tiers = std::sync::Arc::new(input.json::<Tiers>("tier assignment")?);
    let mut models = Vec::new();
    for _ in 0..input.u32()? {
        let id = input
            .text()?
            .parse()
            .map_err(|_| UnreadableFile::Content("model id"))?;
        models.push(StoredModel {
            id,
            model: std::sync::Arc::new(input.json::<AuthorizationModel>("model")?),
        });
    }
    read_symbols(&mut input, &mut root)?;
    // Names first, so that compiling the models finds the numbers the file speaks of.
    models.into_iter().for_each(|model| root.add_model(model));
    read_sets(&mut input, &mut root)?;
    if input.0.is_empty() {
        Ok(root)
    } else {
        Err(UnreadableFile::Content("end"))
    }
}

fn read_symbols(input: &mut Reader<'_>, root: &mut Root) -> Result<(), UnreadableFile> {
    let symbols = std::sync::Arc::make_mut(&mut root.symbols);
    for _ in 0..input.u32()? {
        symbols
            .add_type(input.text()?)
            .ok_or(UnreadableFile::Content("type name"))?;
    }
    for _ in 0..input.u32()? {
        symbols
            .add_relation(input.text()?)
            .ok_or(UnreadableFile::Content("relation name"))?;
    }
    let mut names = Vec::new();
    for _ in 0..input.u32()? {
        names.push((input.text()?, input.type_id(symbols.type_names().len())?));
    }
    root.names = Names::from_ordered(names.into_iter(), root.names.limit())
        .ok_or(UnreadableFile::Content("number of names"))?;
    Ok(())
}

fn read_sets(input: &mut Reader<'_>, root: &mut Root) -> Result<(), UnreadableFile> {
    let (types, relations, names) = (
        root.symbols.type_names().len(),
        root.symbols.relation_names().len(),
        root.names.len(),
    );
    let covered = std::sync::Arc::make_mut(&mut root.covered);
    for _ in 0..input.u32()? {
        covered.insert(input.type_id(types)?);
    }
    let mut members = Vec::new();
    for _ in 0..input.u32()? {
        let key = input.set_key(names, relations)?;
        for _ in 0..input.u32()? {
            members.push((key, Subject::Object(input.object_id(names)?), None));
        }
        for _ in 0..input.u32()? {
            let of = input.set_key(names, relations)?;
            members.push((key, Subject::Userset(of), None));
        }
    }
    for _ in 0..input.u32()? {
        let key = input.set_key(names, relations)?;
        let subject = match input.u32()? {
            0 => Subject::Object(input.object_id(names)?),
            1 => Subject::Userset(input.set_key(names, relations)?),
            _ => return Err(UnreadableFile::Content("subject")),
        };
        let condition = TupleCondition {
            name: input.text()?.into(),
            context: input.text()?.into(),
        };
        let binding = std::sync::Arc::new(Binding::new(condition).parsed());
        members.push((key, subject, Some(binding)));
    }
    root.lay_out(members);
    Ok(())
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        // These types serialize without fail; an empty text would be refused on reading.
        self.text(&serde_json::to_string(value).unwrap_or_default());
    }

    fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        items.for_each(|item| write(self, item));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], UnreadableFile> {
        let (bytes, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(UnreadableFile::Content("length"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, UnreadableFile> {
        let bytes = self
            .bytes(4)?
            .try_into()
            .map_err(|_| UnreadableFile::Content("number"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, UnreadableFile> {
        let bytes = self
            .bytes(8)?
            .try_into()
            .map_err(|_| UnreadableFile::Content("number"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Result<&'a str, UnreadableFile> {
        let len = self.u32()? as usize;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| UnreadableFile::Content("text"))
    }

    fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        what: &'static str,
    ) -> Result<T, UnreadableFile> {
        serde_json::from_str(self.text()?).map_err(|_| UnreadableFile::Content(what))
    }

    fn below(&mut self, count: usize, what: &'static str) -> Result<u32, UnreadableFile> {
        let number = self.u32()?;
        if (number as usize) < count {
            Ok(number)
        } else {
            Err(UnreadableFile::Content(what))
        }
    }

    fn type_id(&mut self, count: usize) -> Result<TypeId, UnreadableFile> {
        let id = self.below(count, "type number")?;
        u16::try_from(id)
            .map(TypeId)
            .map_err(|_| UnreadableFile::Content("type number"))
    }

    fn object_id(&mut self, count: usize) -> Result<ObjectId, UnreadableFile> {
        self.below(count, "name number").map(ObjectId)
    }

    fn set_key(&mut self, names: usize, relations: usize) -> Result<SetKey, UnreadableFile> {
        let object = self.object_id(names)?;
        let relation = u16::try_from(self.below(relations, "relation number")?)
            .map_err(|_| UnreadableFile::Content("relation number"))?;
        Ok(SetKey::new(object, RelationId(relation)))
    }
}
