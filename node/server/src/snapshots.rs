//! The snapshot files of an edge: one a store, `<store id>.view` in the edge's folder.
//!
//! A file is written beside its place, synced and moved there, so a crash leaves the old one or the new one. One that
//! cannot be read is set aside and its store is loaded from upstream.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use meridian_engine::View;
use meridian_model::{Position, StoreId};
use meridian_sync::views::Views;
use tokio_util::sync::CancellationToken;

const EXTENSION: &str = "view";

/// The folder.
pub struct Snapshots {
    folder: PathBuf,
    /// What is in the file of each store.
    written: HashMap<StoreId, Content>,
}

/// What tells two states of a store's view apart: it is filled without a new revision.
#[derive(PartialEq, Eq)]
struct Content {
    position: Position,
    covered: Vec<String>,
}

impl Content {
    fn of(view: &View) -> Self {
        let mut covered: Vec<_> = view.covered_types().map(str::to_owned).collect();
        covered.sort_unstable();
        Self {
            position: view.position(),
            covered,
        }
    }
}

impl Snapshots {
    /// Opens the folder, made if need be.
    ///
    /// # Errors
    /// When it cannot be made or written to.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let writable = || {
            fs::create_dir_all(folder)?;
            let probe = folder.join(".probe");
            File::create(&probe)?;
            fs::remove_file(probe)
        };
        writable().with_context(|| {
            format!("edge.directory '{}' cannot be written to", folder.display())
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            written: HashMap::new(),
        })
    }

    /// Reads every file, which blocks. What cannot be read is logged and set aside.
    pub fn load(mut self) -> (Self, Vec<View>) {
        let views = self.read_all();
        (self, views)
    }

    fn read_all(&mut self) -> Vec<View> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), %error, "cannot list the snapshot files; starting empty");
                return Vec::new();
            }
        };
        let paths = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
        let views: Vec<View> = paths.filter_map(|path| read(&path)).collect();
        // So that the file of a store that turns out to be gone goes too.
        self.written = views
            .iter()
            .filter_map(|view| Some((view.info()?.id, Content::of(view))))
            .collect();
        views
    }

    /// Writes the views that changed every `interval`, and once more at the stop.
    pub async fn keep(mut self, views: Arc<Views>, interval: Duration, stop: CancellationToken) {
        loop {
            let stopped = tokio::time::timeout(interval, stop.cancelled())
                .await
                .is_ok();
            let views = Arc::clone(&views);
            let written = tokio::task::spawn_blocking(move || {
                self.write_changed(&views);
                self
            });
            match written.await {
                Ok(snapshots) if !stopped => self = snapshots,
                _ => return,
            }
        }
    }

    fn write_changed(&mut self, views: &Views) {
        let held: HashSet<StoreId> = views.positions().into_iter().map(|(id, _)| id).collect();
        for gone in self
            .written
            .keys()
            .filter(|store| !held.contains(store))
            .copied()
            .collect::<Vec<_>>()
        {
            self.written.remove(&gone);
            if let Err(error) = fs::remove_file(self.path(gone)) {
                tracing::warn!(store = %gone, %error, "cannot remove a snapshot file");
            }
        }
        for store in held {
            let Some(shown) = views.get(store) else {
                continue;
            };
            let content = Content::of(&shown.view);
            if self.written.get(&store) == Some(&content) {
                continue;
            }
            match self.write(store, &shown.view.to_file()) {
                Ok(()) => {
                    self.written.insert(store, content);
                }
                Err(error) => tracing::warn!(%store, %error, "cannot write a snapshot file"),
            }
        }
    }

    fn write(&self, store: StoreId, content: &[u8]) -> io::Result<()> {
        let beside = self.folder.join(format!("{store}.tmp"));
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, self.path(store))?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, store: StoreId) -> PathBuf {
        self.folder.join(format!("{store}.{EXTENSION}"))
    }
}

fn read(path: &Path) -> Option<View> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "cannot read a snapshot file; loading its store from upstream");
            return None;
        }
    };
    match View::from_file(&content) {
        Ok(view) => Some(view),
        Err(error) => {
            let aside = path.with_extension("unreadable");
            let moved = fs::rename(path, &aside).is_ok();
            tracing::warn!(file = %path.display(), %error, moved, "a snapshot file cannot be used; loading its store from upstream");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use async_trait::async_trait;
    use meridian_model::change::StoreInfo;
    use meridian_model::ports::StoreHead;
    use meridian_model::{Tiers, Timestamp, Tuple};
    use meridian_sync::edge_driver::{DriverSettings, EdgeDriver};
    use meridian_sync::upstream::{Changes, Incoming, Standing, Upstream, UpstreamError};

    use super::*;

    fn view() -> View {
        let info = StoreInfo {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            name: "shop".into(),
            created_at: Timestamp(1),
        };
        let tiers = Tiers {
            critical: ["doc".to_owned()].into(),
            ..Tiers::default()
        };
        View::new(Position::new(1, 9)).with_head(info, tiers)
    }

    #[test]
    fn a_view_comes_back_and_a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::open(folder.path()).unwrap();
        let view = view();
        let info = view.info().cloned().unwrap();
        let store = info.id;
        snapshots.write(store, &view.to_file()).unwrap();
        let loaded = snapshots.read_all();
        assert_eq!(
            loaded
                .iter()
                .map(|view| (view.position(), view.info().cloned()))
                .collect::<Vec<_>>(),
            [(Position::new(1, 9), Some(info))]
        );

        fs::write(snapshots.path(store), b"MERIDIAN VIEW 1\nnot really").unwrap();
        assert!(snapshots.read_all().is_empty());
        assert!(folder.path().join(format!("{store}.unreadable")).exists());
        assert!(snapshots.read_all().is_empty());
    }

    /// A node above that knows no store, once it is there at all.
    struct Above(AtomicBool);

    impl Above {
        fn refusal(&self) -> UpstreamError {
            if self.0.load(Ordering::Relaxed) {
                return UpstreamError::UnknownStore;
            }
            UpstreamError::Unavailable("not there yet".into())
        }
    }

    #[async_trait]
    impl Upstream for Above {
        async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
            if !self.0.load(Ordering::Relaxed) {
                return Err(self.refusal());
            }
            Ok(Standing {
                stores: Vec::new(),
                heartbeat: None,
            })
        }

        async fn changes(
            &self,
            _: StoreId,
            _: Position,
            _: u32,
            _: Instant,
        ) -> Result<Changes, UpstreamError> {
            Err(self.refusal())
        }

        async fn head(
            &self,
            _: StoreId,
            _: Position,
            _: Instant,
        ) -> Result<StoreHead, UpstreamError> {
            Err(self.refusal())
        }

        async fn fill(
            &self,
            _: StoreId,
            _: &str,
            _: Position,
            _: Duration,
        ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
            Err(self.refusal())
        }

        async fn snapshot(
            &self,
            _: StoreId,
            _: Position,
            _: Duration,
        ) -> Result<Incoming, UpstreamError> {
            Err(self.refusal())
        }
    }

    /// Waits until a store is shown, or is not.
    async fn until(views: &Views, store: StoreId, shown: bool) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while views.get(store).is_some() != shown {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        waited.await.unwrap();
    }

    /// What an edge shows that holds `view`.
    async fn shown(view: &View, stop: &CancellationToken) -> Arc<Views> {
        let start = Instant::now();
        let views = Arc::new(Views::new(start, None));
        let driver = EdgeDriver {
            upstream: Arc::new(Above(AtomicBool::new(false))),
            views: Arc::clone(&views),
            kept: vec![view.clone()],
            settings: DriverSettings::default(),
            start,
        };
        let (events, received) = tokio::sync::mpsc::channel(1);
        tokio::spawn(driver.run(received, stop.clone()));
        until(&views, view.info().unwrap().id, true).await;
        drop(events);
        views
    }

    #[tokio::test]
    async fn a_file_is_written_anew_when_the_store_was_filled_without_a_revision() {
        let folder = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::open(folder.path()).unwrap();
        let stop = CancellationToken::new();
        let empty = view();
        snapshots.write_changed(&*shown(&empty, &stop).await);
        let filled = empty.cover("doc", []);
        snapshots.write_changed(&*shown(&filled, &stop).await);
        stop.cancel();
        let [read] = <[View; 1]>::try_from(snapshots.read_all()).ok().unwrap();
        assert!(read.is_covered("doc"));
    }

    #[tokio::test]
    async fn the_file_of_a_store_that_is_gone_goes_once_upstream_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::open(folder.path()).unwrap();
        let view = view();
        let store = view.info().unwrap().id;
        snapshots.write(store, &view.to_file()).unwrap();
        let (start, stop) = (Instant::now(), CancellationToken::new());
        let above = Arc::new(Above(AtomicBool::new(false)));
        let views = Arc::new(Views::new(start, None));
        let driver = EdgeDriver {
            upstream: Arc::clone(&above) as _,
            views: Arc::clone(&views),
            kept: snapshots.read_all(),
            settings: DriverSettings::default(),
            start,
        };
        let (events, received) = tokio::sync::mpsc::channel(1);
        let driven = tokio::spawn(driver.run(received, stop.clone()));
        until(&views, store, true).await;
        snapshots.write_changed(&views);
        assert!(snapshots.path(store).exists());

        above.0.store(true, Ordering::Relaxed);
        until(&views, store, false).await;
        snapshots.write_changed(&views);
        assert!(!snapshots.path(store).exists());
        stop.cancel();
        driven.await.unwrap();
        drop(events);
    }
}
