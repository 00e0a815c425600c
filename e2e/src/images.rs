//! The images that a test cluster runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

const INDEX: &str = "images.json";

/// Every image of Meridian's, as `cargo xtask` makes them of the programs it has built.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Images {
    /// The nodes, and `meridian`.
    pub node: Image,
    /// The operator.
    pub operator: Image,
    /// What keeps a pod's namespaces.
    pub pause: Image,
}

/// An image in a tar archive.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Image {
    /// Its name, without the tag.
    pub repository: String,
    /// Another one for any other content, but for what keeps pods.
    pub tag: String,
    /// The file.
    pub archive: PathBuf,
}

impl Image {
    /// `<repository>:<tag>`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

impl Images {
    /// Those that [`Self::save`] has told of in this folder.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(INDEX);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "no images in {}: run `cargo xtask cluster images`",
                dir.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes down what there is in a folder.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(INDEX);
        fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("writing {}", path.display()))
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> [&Image; 3] {
        [&self.node, &self.operator, &self.pause]
    }
}
