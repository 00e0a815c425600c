//! The definitions under `crds/` are those of the types.

use std::path::Path;

use meridian_operator::api;

/// With `UPDATE=1` they are written.
#[test]
fn the_definitions_under_crds_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    for (name, definition) in api::definitions() {
        let path = folder.join(name);
        let wanted = api::yaml(&definition).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{} is not what the types say: run the test again with UPDATE=1",
            path.display()
        );
    }
}
