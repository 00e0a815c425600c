//! Images of what has been built, without Docker: the programs, the shared libraries they load, and certificates.

mod archive;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use meridian_e2e::images::{Image, Images};

use crate::stage::Stage;
use archive::{Content, Entry};

const NODE: [&str; 5] = [
    "meridian",
    "meridian-central",
    "meridian-regional",
    "meridian-edge",
    "meridian-live",
];
const OPERATOR: [&str; 1] = ["meridian-operator"];
const PAUSE: &str = include_str!("images/pause.c");

/// Where systems keep the certificates of those they trust.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Makes all images, in a folder beside the programs'. They are there once the workspace is built.
pub(crate) async fn make(stage: &Stage) -> Result<PathBuf> {
    let programs = programs_dir()?;
    let dir = programs.join("images");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let images = Images {
        node: programs_image(stage, "meridian", &NODE, &programs, &dir).await?,
        operator: programs_image(stage, "meridian-operator", &OPERATOR, &programs, &dir).await?,
        pause: pause(stage, &dir).await?,
    };
    images.save(&dir)?;
    for image in images.all() {
        let size = fs::metadata(&image.archive)?.len();
        stage.line(&format!("{} {} MB", image.reference(), size / 1_000_000));
    }
    Ok(dir)
}

/// Whether the workspace has been built before.
pub(crate) fn is_built() -> Result<bool> {
    let programs = programs_dir()?;
    let mut names = NODE.iter().chain(&OPERATOR);
    Ok(names.all(|name| programs.join(name).is_file()))
}

/// This program's own folder, for all of the workspace are built into one.
fn programs_dir() -> Result<PathBuf> {
    let own = env::current_exe().context("asking where this program is")?;
    let dir = own.parent().context("this program is in no folder")?;
    Ok(dir.to_owned())
}

async fn programs_image(
    stage: &Stage,
    name: &str,
    programs: &[&str],
    from: &Path,
    dir: &Path,
) -> Result<Image> {
    let mut entries = base()?;
    let mut libraries = BTreeSet::new();
    for program in programs {
        let built = from.join(program);
        libraries.extend(libraries_of(&built)?);
        // Their symbols are most of them, and would be most of the time that loading an image takes.
        let stripped = dir.join(program);
        let mut strip = Command::new("strip");
        stage
            .run(strip.arg("-o").arg(&stripped).arg(&built))
            .await?;
        entries.push(Entry::program(
            &format!("usr/local/bin/{program}"),
            Content::File(stripped),
        ));
    }
    for library in libraries {
        let inside = library.display().to_string();
        entries.push(Entry::program(
            inside.trim_start_matches('/'),
            Content::File(library),
        ));
    }
    let image = archive::Image {
        repository: format!("registry.local/{name}"),
        tag: None,
        user: "65532:65532",
        command: vec![format!("/usr/local/bin/{name}")],
        entries,
    };
    image.write(&dir.join(format!("{name}.tar")))
}

/// What is in every image: who its programs run as, whom they trust, and room for temporary files.
fn base() -> Result<Vec<Entry>> {
    let certificates = CERTIFICATES.iter().find(|path| Path::new(path).is_file());
    let Some(certificates) = certificates else {
        bail!(
            "no certificates in {}: install them (Debian: `apt-get install ca-certificates`)",
            CERTIFICATES.join(" or ")
        )
    };
    let text = |text: &str| Content::Text(text.to_owned());
    Ok(vec![
        Entry::folder("tmp", 0o1777),
        Entry::file("etc/passwd", text("meridian:x:65532:65532::/:/nologin\n")),
        Entry::file("etc/group", text("meridian:x:65532:\n")),
        Entry::file("etc/nsswitch.conf", text("hosts: files dns\n")),
        Entry::file(
            "etc/ssl/certs/ca-certificates.crt",
            Content::File(certificates.into()),
        ),
    ])
}

/// The files that the system's loader would load for a program, and the loader itself.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting `ldd`")?;
    ensure!(
        output.status.success(),
        "no {}: build it first",
        program.display()
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(parse_libraries(&text))
}

/// From lines such as `libc.so.6 => /lib/libc.so.6 (0x7f…)`, `/lib64/ld-linux.so.2 (0x7f…)` and `linux-vdso.so.1 (0x7f…)`.
fn parse_libraries(text: &str) -> Vec<PathBuf> {
    let words = text
        .lines()
        .flat_map(|line| line.split_whitespace().rev().nth(1));
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

async fn pause(stage: &Stage, dir: &Path) -> Result<Image> {
    let source = dir.join("pause.c");
    fs::write(&source, PAUSE).with_context(|| format!("writing {}", source.display()))?;
    let program = dir.join("pause");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-Os", "-s", "-o"]).arg(&program);
    stage.run(cc.arg(&source)).await?;
    let image = archive::Image {
        repository: "registry.local/pause".to_owned(),
        // containerd's settings name it.
        tag: Some("1".to_owned()),
        user: "65535:65535",
        command: vec!["/pause".to_owned()],
        entries: vec![Entry::program("pause", Content::File(program))],
    };
    image.write(&dir.join("pause.tar"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::parse_libraries;

    #[test]
    fn libraries_are_those_with_a_path() {
        let text = "\tlinux-vdso.so.1 (0x00007f0957928000)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0955a1e000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f095792a000)\n\
            \tstatically linked\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_libraries(text), expected.map(PathBuf::from));
    }
}
