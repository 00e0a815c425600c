//! An image as a tar archive, in the layout of `docker save`: a manifest, a configuration and one layer.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What an image is made of.
pub(super) struct Image {
    pub(super) repository: String,
    /// Named after the content unless given.
    pub(super) tag: Option<String>,
    /// User and group number.
    pub(super) user: &'static str,
    /// What is run unless something else is asked for.
    pub(super) command: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

/// A file or folder of an image.
pub(super) struct Entry {
    /// Without a leading slash.
    path: String,
    mode: u32,
    content: Content,
}

/// What is in a file.
pub(super) enum Content {
    /// As in this file.
    File(PathBuf),
    Text(String),
    /// It is a folder.
    Folder,
}

impl Entry {
    /// A file to be run, or loaded.
    pub(super) fn program(path: &str, content: Content) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o755,
            content,
        }
    }

    /// A file to be read.
    pub(super) fn file(path: &str, content: Content) -> Self {
        Self {
            mode: 0o644,
            ..Self::program(path, content)
        }
    }

    pub(super) fn folder(path: &str, mode: u32) -> Self {
        Self {
            mode,
            ..Self::program(path, Content::Folder)
        }
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::File(path) => {
                fs::read(path).with_context(|| format!("reading {}", path.display()))
            }
            Content::Text(text) => Ok(text.clone().into_bytes()),
            Content::Folder => Ok(Vec::new()),
        }
    }
}

impl Image {
    /// Writes the archive. The same content gives the same file, and the same tag.
    pub(super) fn write(self, path: &Path) -> Result<meridian_e2e::images::Image> {
        let layer = self.layer()?;
        let config = self.config(&hex(&layer));
        let config = serde_json::to_vec(&config)?;
        let tag = self.tag.unwrap_or_else(|| {
            let mut digest = hex(&config);
            digest.truncate(12);
            format!("dev-{digest}")
        });
        let manifest = json!([{
            "Config": "config.json",
            "RepoTags": [format!("{}:{tag}", self.repository)],
            "Layers": ["layer.tar"],
        }]);
        let file = File::create(path).with_context(|| format!("opening {}", path.display()))?;
        let mut archive = Builder::new(BufWriter::new(file));
        for (name, bytes) in [
            ("manifest.json", &serde_json::to_vec(&manifest)?),
            ("config.json", &config),
            ("layer.tar", &layer),
        ] {
            append(&mut archive, name, 0o644, EntryType::Regular, bytes)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        archive
            .into_inner()?
            .into_inner()
            .map_err(|error| error.into_error())?;
        Ok(meridian_e2e::images::Image {
            repository: self.repository,
            tag,
            archive: path.to_owned(),
        })
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for entry in &self.entries {
            let kind = match entry.content {
                Content::Folder => EntryType::Directory,
                Content::File(_) | Content::Text(_) => EntryType::Regular,
            };
            append(&mut layer, &entry.path, entry.mode, kind, &entry.bytes()?)?;
        }
        Ok(layer.into_inner()?)
    }

    fn config(&self, layer: &str) -> serde_json::Value {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": self.user,
                "Cmd": self.command,
                "Env": ["PATH=/usr/local/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
    }
}

fn append(
    archive: &mut Builder<impl std::io::Write>,
    path: &str,
    mode: u32,
    kind: EntryType,
    bytes: &[u8],
) -> Result<()> {
    // Owner, group and time stay 0.
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
