//! `src/gen` is what the files under `proto/` make. After a change to one of them, write it anew:
//!
//! ```sh
//! UPDATE=1 cargo test -p meridian-proto --test it generated
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use meridian_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::generate::generate;

#[test]
fn generated_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let scratch = tempfile::tempdir().unwrap();
    generate(root, scratch.path());
    let fresh = contents(scratch.path());

    if env::var_os("UPDATE").is_some() {
        for name in contents(&committed).keys() {
            fs::remove_file(committed.join(name)).unwrap();
        }
        for (name, bytes) in &fresh {
            fs::write(committed.join(name), bytes).unwrap();
        }
    }

    let committed = contents(&committed);
    assert!(
        committed.keys().eq(fresh.keys()),
        "src/gen holds other files than it should: run with UPDATE=1"
    );
    for (name, bytes) in &fresh {
        assert!(
            &committed[name] == bytes,
            "src/gen/{name} is stale: run with UPDATE=1"
        );
    }
}

#[test]
fn reflection_knows_what_clients_call_and_every_import() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let services = files
        .iter()
        .flat_map(|file| file.service.iter().map(|service| service.name().to_owned()));
    let services: BTreeSet<_> = services.collect();
    assert!(
        services.iter().eq([
            "AdminService",
            "AuthZenService",
            "CheckService",
            "FlowService",
            "OpenFGAService"
        ]),
        "{services:?}"
    );

    let names: BTreeSet<_> = files.iter().map(|file| file.name()).collect();
    for import in files.iter().flat_map(|file| &file.dependency) {
        assert!(names.contains(import.as_str()), "{import} is missing");
    }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        })
        .collect()
}
