//! An edge's views on disk, so that a restart begins with what was held and asks only for what changed since.
//!
//! One file a store, `<store id>.view`, written whole beside the old one and then put in its place. A file that cannot be
//! used is only a slower start.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use meridian_engine::View;
use meridian_model::ids::StoreId;

const ENDING: &str = "view";

/// Writes a store's view into `folder`, which must exist. Blocks.
///
/// # Errors
/// Whatever the file system says; the file from before is then still there.
pub fn save(folder: &Path, store: StoreId, view: &View) -> io::Result<()> {
    let whole = folder.join(format!("{store}.{ENDING}"));
    let unfinished = whole.with_extension("tmp");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(&view.to_file())?;
    file.sync_all()?;
    fs::rename(unfinished, whole)
}

/// Forgets a store's file.
///
/// # Errors
/// Whatever the file system says; that there is none is no error.
pub fn remove(folder: &Path, store: StoreId) -> io::Result<()> {
    match fs::remove_file(folder.join(format!("{store}.{ENDING}"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads every view in `folder`. Files that cannot be read are logged and left out. Blocks.
///
/// # Errors
/// When the folder cannot be listed.
pub fn load(folder: &Path) -> io::Result<Vec<View>> {
    let mut views = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let read = fs::read(&path).map_err(|error| error.to_string());
        match read.and_then(|content| View::from_file(&content).map_err(|error| error.to_string()))
        {
            Ok(view) => views.push(view),
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "a kept view cannot be used; it is fetched anew")
            }
        }
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use meridian_model::change::{StoreInfo, Tiers};
    use meridian_model::ids::{Position, Timestamp};

    use super::*;

    #[test]
    fn views_are_found_again_and_damaged_ones_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, damaged): (StoreId, StoreId) = (
            "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap(),
        );
        for store in [kept, damaged] {
            let info = StoreInfo {
                id: store,
                name: "s".into(),
                created_at: Timestamp(1),
            };
            let view = View::new(Position::new(3, 7)).with_head(info, Tiers::default());
            save(folder.path(), store, &view).unwrap();
            save(folder.path(), store, &view).unwrap();
        }
        let path = folder.path().join(format!("{damaged}.view"));
        let mut content = fs::read(&path).unwrap();
        content.truncate(content.len() / 2);
        fs::write(&path, content).unwrap();

        let views = load(folder.path()).unwrap();
        assert_eq!(views.len(), 1);
        assert_eq!(views[0].info().map(|info| info.id), Some(kept));
        assert_eq!(views[0].position(), Position::new(3, 7));

        remove(folder.path(), kept).unwrap();
        remove(folder.path(), kept).unwrap();
        assert!(load(folder.path()).unwrap().is_empty());
    }
}
