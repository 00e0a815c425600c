//! What travels over the live channel.

use meridian_model::StoreId;
use serde_json::value::RawValue;

/// Where a record stands in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: usize,
    /// The offset in it.
    pub offset: i64,
}

/// A record: what happened to an object.
#[derive(Debug, Clone)]
pub struct Record {
    /// The store that the object is of.
    pub store: StoreId,
    /// The object, like `event:42`.
    pub object: String,
    /// Objects that it belongs to besides: an organization, a stage.
    pub objects: Vec<String>,
    /// What happened, as JSON.
    pub data: Box<RawValue>,
    /// When it was sent, in milliseconds since 1970, UTC.
    pub at: i64,
    /// Where it stands in the topic.
    pub place: Place,
}

/// Longest name of an object, in bytes.
pub const MAX_OBJECT: usize = 256;
/// Objects that one record may belong to besides its own.
pub const MAX_OBJECTS: usize = 16;

/// Why a record cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// An object's name is none.
    #[error(
        "'{0}' is no object: write type:id, in UTF-8, of at most {MAX_OBJECT} bytes without spaces"
    )]
    Object(String),
    /// It belongs to too many objects.
    #[error("objects has {0} of them; a record may belong to {MAX_OBJECTS} besides its own")]
    Objects(usize),
    /// Its store is none.
    #[error("'{0}' is no store's id")]
    Store(String),
    /// No store is named.
    #[error("no store is named: set the header meridian-store, or the node's live.store")]
    NoStore,
    /// Its data is no JSON.
    #[error("the data is no JSON: {0}")]
    Data(String),
}

/// Checks that a text names one object.
///
/// # Errors
/// [`InvalidRecord::Object`].
pub fn check_object(text: &str) -> Result<(), InvalidRecord> {
    let named = text.split_once(':').is_some_and(|(object_type, id)| {
        !object_type.is_empty() && !id.is_empty() && id != "*" && !id.contains('#')
    });
    let plain =
        text.len() <= MAX_OBJECT && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if named && plain {
        return Ok(());
    }
    Err(InvalidRecord::Object(
        text.chars().take(MAX_OBJECT).collect(),
    ))
}

/// Checks the objects of a record.
///
/// # Errors
/// [`InvalidRecord::Object`] or [`InvalidRecord::Objects`].
pub fn check_objects(object: &str, objects: &[String]) -> Result<(), InvalidRecord> {
    if objects.len() > MAX_OBJECTS {
        return Err(InvalidRecord::Objects(objects.len()));
    }
    check_object(object)?;
    objects.iter().try_for_each(|object| check_object(object))
}

/// A message of the topic, as it came.
#[derive(Debug, Clone, Default)]
pub struct RawRecord<'a> {
    /// Its key: the object.
    pub key: &'a [u8],
    /// Its value: JSON.
    pub value: &'a [u8],
    /// Its header `meridian-store`.
    pub store: Option<&'a [u8]>,
    /// Its header `meridian-objects`: comma-separated.
    pub objects: Option<&'a [u8]>,
}

impl RawRecord<'_> {
    /// Reads it. `store` is that of messages that name none.
    ///
    /// # Errors
    /// [`InvalidRecord`].
    pub fn read(
        &self,
        store: Option<StoreId>,
        at: i64,
        place: Place,
    ) -> Result<Record, InvalidRecord> {
        let store = match self.store.map(String::from_utf8_lossy) {
            Some(id) => id
                .parse()
                .map_err(|_| InvalidRecord::Store(id.chars().take(MAX_OBJECT).collect()))?,
            None => store.ok_or(InvalidRecord::NoStore)?,
        };
        let object = text(self.key)?.to_owned();
        let objects = text(self.objects.unwrap_or_default())?;
        let objects = objects.split(',').map(str::trim);
        let objects: Vec<_> = objects
            .filter(|object| !object.is_empty())
            .map(str::to_owned)
            .collect();
        check_objects(&object, &objects)?;
        let data = serde_json::from_slice(self.value)
            .map_err(|why| InvalidRecord::Data(why.to_string()))?;
        Ok(Record {
            store,
            object,
            objects,
            data,
            at,
            place,
        })
    }
}

/// Names of objects as text. None is changed to make it one: two that differ would be the same then.
fn text(bytes: &[u8]) -> Result<&str, InvalidRecord> {
    str::from_utf8(bytes).map_err(|_| {
        let text = String::from_utf8_lossy(bytes);
        InvalidRecord::Object(text.chars().take(MAX_OBJECT).collect())
    })
}

#[cfg(test)]
mod tests;
