//! Which folders to watch, and what matters in each.
//!
//! Policies change in more ways than by a write to a file: the folder is renamed away and another
//! put in its place, or a link anywhere on the way to it is turned to another target (that is how
//! Kubernetes updates a mounted ConfigMap). So besides the policy folders themselves, the folder of
//! every link on the way is watched for that link's name, and the parent of the path for the path.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::provider::walk::{Tree, is_policy};

/// What to watch. Folders are real paths, without a link in them, so none is there twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    folders: BTreeMap<PathBuf, Names>,
}

/// What matters in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// It has policies. Of its other files only these are read: policies are links to them.
    All(BTreeSet<OsString>),
    /// It leads to them.
    Only(BTreeSet<OsString>),
}

impl Plan {
    /// For policies at `path`, where `tree` was found, or a part of it, or nothing.
    pub(super) fn of(path: &Path, tree: &Tree) -> Self {
        let mut plan = Self::default();
        plan.trace(path);
        for link in &tree.links {
            plan.trace(link);
        }
        for folder in &tree.folders {
            if let Ok(real) = fs::canonicalize(folder) {
                let names = match plan.folders.remove(&real) {
                    Some(Names::All(names) | Names::Only(names)) => names,
                    None => BTreeSet::new(),
                };
                plan.folders.insert(real, Names::All(names));
            }
        }
        plan
    }

    /// The folders to watch, each without those in it.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.keys().map(PathBuf::as_path)
    }

    /// Whether it can matter that `path` has come, gone or changed its name.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        self.has(path, |_| true)
    }

    /// Whether it can matter that the contents or the rights of `path` have changed.
    pub(super) fn reads(&self, path: &Path) -> bool {
        self.has(path, is_policy)
    }

    /// Whether `path` is one of the folders, leads to one, or is in a folder of policies and `counts`.
    fn has(&self, path: &Path, counts: impl Fn(&Path) -> bool) -> bool {
        if self.folders.contains_key(path) {
            return true;
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return true;
        };
        match self.folders.get(folder) {
            Some(Names::All(names)) => counts(path) || names.contains(name),
            Some(Names::Only(names)) => names.contains(name),
            None => false,
        }
    }

    /// Follows `path` link by link and takes down every place where it could turn elsewhere. Stops
    /// where it ends in nothing: whatever appears there later matters.
    fn trace(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else {
            return;
        };
        let mut ahead = parts(&path);
        let mut at = PathBuf::new();
        let mut links = 0_u32;
        while let Some(part) = ahead.pop() {
            let name = match part {
                Part::Root => {
                    at = PathBuf::from("/");
                    continue;
                }
                Part::Up => {
                    at.pop();
                    continue;
                }
                Part::Name(name) => name,
            };
            let next = at.join(&name);
            let target = fs::read_link(&next);
            if target.is_ok() || ahead.is_empty() || fs::symlink_metadata(&next).is_err() {
                self.only(&at, name);
            }
            match target {
                Ok(target) => {
                    links = links.saturating_add(1);
                    if links > MAX_LINKS {
                        return;
                    }
                    ahead.extend(parts(&target));
                }
                Err(_) if next.exists() => at = next,
                Err(_) => return,
            }
        }
    }

    fn only(&mut self, folder: &Path, name: OsString) {
        let names = self
            .folders
            .entry(folder.to_owned())
            .or_insert_with(|| Names::Only(BTreeSet::new()));
        let (Names::All(names) | Names::Only(names)) = names;
        names.insert(name);
    }
}

enum Part {
    Root,
    Up,
    Name(OsString),
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<Part> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::CurDir => None,
            Component::RootDir | Component::Prefix(_) => Some(Part::Root),
            Component::ParentDir => Some(Part::Up),
            Component::Normal(name) => Some(Part::Name(name.to_owned())),
        })
        .collect()
}

/// As the kernel does, links in circles are given up.
const MAX_LINKS: u32 = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// The plan for a path in a folder, as lines of `folder: names`, without the folder's path.
    fn plan(root: &Path, path: &str) -> Vec<String> {
        let path = root.join(path);
        let mut tree = Tree::default();
        let _found = tree.fill(&path);
        let lines = |(folder, names): (&PathBuf, &Names)| {
            let folder = folder.strip_prefix(root).unwrap().display();
            match names {
                Names::All(_) => format!("{folder}: *"),
                Names::Only(names) => {
                    let names: Vec<_> = names.iter().map(|n| n.to_string_lossy()).collect();
                    format!("{folder}: {}", names.join(" "))
                }
            }
        };
        Plan::of(&path, &tree).folders.iter().map(lines).collect()
    }

    fn root(folders: &[&str], files: &[&str]) -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for folder in folders {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in files {
            fs::write(root.join(file), "").unwrap();
        }
        (dir, root)
    }

    #[test]
    fn folders_are_watched_whole_and_their_parent_for_their_name() {
        let (_dir, root) = root(&["p/a/b", "p/.git", "q"], &["p/x.yaml"]);
        assert_eq!(plan(&root, "p"), [": p", "p: *", "p/a: *", "p/a/b: *"]);
    }

    #[test]
    fn a_file_is_watched_in_its_folder() {
        let (_dir, root) = root(&["p"], &["p/x.yaml"]);
        assert_eq!(plan(&root, "p/x.yaml"), ["p: x.yaml"]);
    }

    #[test]
    fn what_is_missing_is_awaited_where_the_path_ends() {
        let (_dir, root) = root(&["a"], &[]);
        assert_eq!(plan(&root, "a/b/c"), ["a: b"]);
    }

    #[test]
    fn links_on_the_way_are_watched_where_they_are() {
        let (_dir, root) = root(&["releases/1/p"], &["releases/1/p/x.yaml"]);
        symlink("releases/1", root.join("current")).unwrap();
        let expected = [": current", "releases/1: p", "releases/1/p: *"];
        assert_eq!(plan(&root, "current/p"), expected);
    }

    #[test]
    fn a_mounted_file_of_a_config_map_is_watched_at_its_data_link() {
        let (_dir, root) = root(&["m/..1"], &["m/..1/p.yaml"]);
        symlink("..1", root.join("m/..data")).unwrap();
        symlink("..data/p.yaml", root.join("m/p.yaml")).unwrap();
        let expected = ["m: ..data p.yaml", "m/..1: p.yaml"];
        assert_eq!(plan(&root, "m/p.yaml"), expected);
        let expected = [": m", "m: *", "m/..1: p.yaml"];
        assert_eq!(plan(&root, "m"), expected);
    }

    #[test]
    fn a_link_out_of_the_folder_is_watched_where_it_leads() {
        let (_dir, root) = root(&["p", "q"], &["q/x.yaml"]);
        symlink("../q/x.yaml", root.join("p/x.yaml")).unwrap();
        assert_eq!(plan(&root, "p"), [": p", "p: *", "q: x.yaml"]);
    }

    #[test]
    fn links_in_circles_are_given_up() {
        let (_dir, root) = root(&[], &[]);
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(plan(&root, "a"), [": a b"]);
    }

    #[test]
    fn only_what_is_named_concerns_it() {
        let (_dir, root) = root(&["p/a"], &["p/x.yaml"]);
        let mut tree = Tree::default();
        tree.fill(&root.join("p")).unwrap();
        let plan = Plan::of(&root.join("p"), &tree);
        for (path, concerned) in [
            ("p", true),
            ("p/x.yaml", true),
            ("p/a/new", true),
            ("q", false),
            ("q/x.yaml", false),
        ] {
            assert_eq!(plan.concerns(&root.join(path)), concerned, "{path}");
        }
    }
}
