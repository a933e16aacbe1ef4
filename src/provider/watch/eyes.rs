//! Looks at the files, and has the kernel tell when they change until the next look.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use super::plan::Plan;
use crate::provider::files::{self, Fingerprint};
use crate::provider::walk::{Found, Tree};

/// A look at the policies blocks; everything here does.
pub(super) struct Eyes {
    path: PathBuf,
    noise: Arc<Notify>,
    open: Open,
    watcher: Option<RecommendedWatcher>,
    /// What the files looked like, from outside.
    outside: Result<Vec<Found>, String>,
    warned: bool,
}

/// How to have the kernel tell of changes.
pub(super) type Open =
    fn(Box<dyn Fn(notify::Result<Event>) + Send>) -> notify::Result<RecommendedWatcher>;

/// The kernel's way (inotify on Linux).
pub(super) const KERNEL: Open = |handler| notify::recommended_watcher(handler);

impl Eyes {
    /// Eyes that have not looked yet. Whatever may be a change is told to `noise`.
    pub(super) fn new(path: PathBuf, noise: Arc<Notify>, open: Open) -> Self {
        Self {
            path,
            noise,
            open,
            watcher: None,
            outside: Ok(Vec::new()),
            warned: false,
        }
    }

    /// What is there now. From here on, changes make noise.
    ///
    /// Every look sets up all watches anew: folders are replaced, links turned, and a watch stays
    /// with the folder that it was set on, not with its path.
    pub(super) fn look(&mut self) -> Fingerprint {
        self.watcher = None;
        let mut plan = self.plan();
        for _ in 0..SETTLES {
            self.watcher = self.watch(&plan);
            let now = self.plan();
            if now == plan {
                break;
            }
            plan = now;
        }
        // Only now, so that no change can slip in between the watches and this.
        self.outside = outside(&self.path);
        Fingerprint::of(&files::read(&self.path))
    }

    /// Whether the files look different from outside than at the last look, or than the last time
    /// that this was asked.
    pub(super) fn differs(&mut self) -> bool {
        let now = outside(&self.path);
        let differs = now != self.outside;
        self.outside = now;
        differs
    }

    fn plan(&self) -> Plan {
        let mut tree = Tree::default();
        let _partial = tree.fill(&self.path);
        Plan::of(&self.path, &tree)
    }

    fn watch(&mut self, plan: &Plan) -> Option<RecommendedWatcher> {
        let noise = Arc::clone(&self.noise);
        let seen = Arc::new(plan.clone());
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) if !stirs(&event, &seen) => {}
            Ok(_) => noise.notify_one(),
            Err(error) => {
                tracing::debug!(%error, "the watcher reports an error; reading policies again");
                noise.notify_one();
            }
        };
        let mut watcher = match (self.open)(Box::new(handler)) {
            Ok(watcher) => watcher,
            Err(error) => {
                self.warn(&error);
                return None;
            }
        };
        for folder in plan.folders() {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                // It went while we looked; the next plan knows.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => self.warn(&error),
                Ok(()) => {}
            }
        }
        Some(watcher)
    }

    /// Says once that changes may be seen late. Every look would have the same to say.
    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                path = %self.path.display(),
                %error,
                "policies cannot be watched; polling them instead, so a change takes effect later \
                 (limits: fs.inotify.max_user_instances, fs.inotify.max_user_watches)"
            );
        }
    }
}

/// Whether an event can be a change of policies. Two kinds cannot, and would never let it be quiet
/// if they were taken for one: our own reading, and what is written to a file beside the policies
/// that is not one of them, such as a log.
fn stirs(event: &Event, plan: &Plan) -> bool {
    let is_content = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => return false,
        _ if event.need_rescan() || event.paths.is_empty() => return true,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => true,
        _ => false,
    };
    event.paths.iter().any(|path| match is_content {
        true => plan.reads(path),
        false => plan.concerns(path),
    })
}

fn outside(path: &Path) -> Result<Vec<Found>, String> {
    let mut tree = Tree::default();
    match tree.fill(path) {
        Ok(()) => Ok(tree.files),
        Err(error) => Err(error.to_string()),
    }
}

/// How often to follow a plan that changes while it is carried out.
const SETTLES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::fs;

    use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind, RenameMode};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_written_to_other_files_of_the_folder_is_no_change() {
        let dir = TempDir::new().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("p/sub")).unwrap();
        fs::write(root.join("p/linked"), "1").unwrap();
        std::os::unix::fs::symlink("linked", root.join("p/a.yaml")).unwrap();
        let path = root.join("p");
        let mut tree = Tree::default();
        tree.fill(&path).unwrap();
        let plan = Plan::of(&path, &tree);
        let stirs = |kind, name: &str| stirs(&Event::new(kind).add_path(path.join(name)), &plan);
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let metadata = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        for kind in [written, data, metadata] {
            assert!(!stirs(kind, "tollgate.log"), "{kind:?}");
            // A policy, what a policy is a link to, a folder of policies.
            assert!(stirs(kind, "b.yml"), "{kind:?}");
            assert!(stirs(kind, "linked"), "{kind:?}");
            assert!(stirs(kind, "sub"), "{kind:?}");
        }
        // What comes, goes or changes its name may be a folder or a link on the way to policies.
        for kind in [
            EventKind::Create(CreateKind::Any),
            EventKind::Remove(RemoveKind::Any),
            EventKind::Modify(ModifyKind::Name(RenameMode::Any)),
        ] {
            assert!(stirs(kind, "..data"), "{kind:?}");
        }
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(!stirs(read, "b.yml"));
    }
}
