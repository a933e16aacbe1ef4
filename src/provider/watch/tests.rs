use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::provider::files;

/// Long enough for any machine; only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(20);

const NEVER: Duration = Duration::from_secs(3_600);

/// Only the kernel's notices, quickly.
const QUICK: WatchConfig = WatchConfig {
    debounce: Duration::from_millis(20),
    longest: Duration::from_millis(200),
    poll: NEVER,
};

const NO_KERNEL: Open = |_| Err(notify::Error::generic("no inotify here"));

struct Scene {
    _dir: TempDir,
    root: PathBuf,
    path: PathBuf,
    watcher: Watcher,
}

impl Scene {
    /// A folder where `set_up` made what there is, watched at `path` in it.
    async fn new(path: &str, set_up: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new().unwrap();
        let root = dir.path().to_owned();
        set_up(&root);
        let path = root.join(path);
        let watcher = Watcher::start(path.clone(), QUICK).await;
        Self {
            _dir: dir,
            root,
            path,
            watcher,
        }
    }

    /// Waits for changes until the files read like this, all in one.
    async fn reads(&self, expected: &str) {
        timeout(DEADLINE, async {
            loop {
                self.watcher.changed().await;
                if text(&self.path) == expected {
                    return;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("reads {:?}, not {expected:?}", text(&self.path)));
    }
}

/// Contents of all policy files, or what is wrong.
fn text(path: &Path) -> String {
    match files::read(path) {
        Ok(files) => files
            .iter()
            .map(|file| String::from_utf8_lossy(&file.bytes).into_owned())
            .collect::<Vec<_>>()
            .join(" "),
        Err(files::ReadError::Missing(_)) => "missing".to_owned(),
        Err(files::ReadError::Empty(_)) => "empty".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn one_file(root: &Path) {
    fs::create_dir(root.join("p")).unwrap();
    fs::write(root.join("p/a.yaml"), "1").unwrap();
}

#[tokio::test]
async fn an_edit_in_place_is_told() {
    let scene = Scene::new("p", one_file).await;
    fs::write(scene.path.join("a.yaml"), "2").unwrap();
    scene.reads("2").await;
    fs::write(scene.path.join("a.yaml"), "3").unwrap();
    scene.reads("3").await;
}

#[tokio::test]
async fn a_file_renamed_over_another_is_told() {
    let scene = Scene::new("p", one_file).await;
    for version in ["2", "3", "4"] {
        fs::write(scene.path.join(".a.yaml.tmp"), version).unwrap();
        fs::rename(scene.path.join(".a.yaml.tmp"), scene.path.join("a.yaml")).unwrap();
        scene.reads(version).await;
    }
}

#[tokio::test]
async fn files_added_and_removed_are_told_in_new_folders_too() {
    let scene = Scene::new("p", one_file).await;
    fs::write(scene.path.join("b.yaml"), "2").unwrap();
    scene.reads("1 2").await;
    fs::create_dir(scene.path.join("c")).unwrap();
    fs::write(scene.path.join("c/c.yaml"), "3").unwrap();
    scene.reads("1 2 3").await;
    fs::write(scene.path.join("c/c.yaml"), "4").unwrap();
    scene.reads("1 2 4").await;
    fs::remove_file(scene.path.join("a.yaml")).unwrap();
    scene.reads("2 4").await;
    fs::rename(scene.path.join("b.yaml"), scene.root.join("b.yaml")).unwrap();
    scene.reads("4").await;
    fs::remove_file(scene.path.join("c/c.yaml")).unwrap();
    scene.reads("empty").await;
}

#[tokio::test]
async fn a_config_map_update_is_told() {
    let publish = |mount: &Path, version: &str| {
        let folder = format!("..2024_{version}");
        fs::create_dir_all(mount.join(&folder)).unwrap();
        fs::write(mount.join(&folder).join("a.yaml"), version).unwrap();
        symlink(&folder, mount.join("..data_tmp")).unwrap();
        let old = fs::read_link(mount.join("..data"));
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(mount.join(old)).unwrap();
        }
    };
    let scene = Scene::new("p", |root| {
        publish(&root.join("p"), "1");
        symlink("..data/a.yaml", root.join("p/a.yaml")).unwrap();
    })
    .await;
    for version in ["2", "3", "4"] {
        publish(&scene.path, version);
        scene.reads(version).await;
    }
    let file = scene.path.join("a.yaml");
    let of_file = Watcher::start(file.clone(), QUICK).await;
    publish(&scene.path, "5");
    timeout(DEADLINE, of_file.changed()).await.unwrap();
    assert_eq!(text(&file), "5");
}

#[tokio::test]
async fn a_folder_that_goes_and_comes_back_is_told() {
    let scene = Scene::new("p", one_file).await;
    for version in ["2", "3"] {
        fs::remove_dir_all(&scene.path).unwrap();
        scene.reads("missing").await;
        fs::create_dir(&scene.path).unwrap();
        fs::write(scene.path.join("a.yaml"), version).unwrap();
        scene.reads(version).await;
    }
    fs::write(scene.path.join("a.yaml"), "4").unwrap();
    scene.reads("4").await;
}

#[tokio::test]
async fn a_folder_that_comes_back_as_it_was_is_told() {
    let scene = Scene::new("p", one_file).await;
    let aside = scene.root.join("aside");
    fs::rename(&scene.path, &aside).unwrap();
    scene.reads("missing").await;
    fs::rename(&aside, &scene.path).unwrap();
    scene.reads("1").await;
}

#[tokio::test]
async fn a_folder_replaced_by_another_is_told_and_the_new_one_watched() {
    let scene = Scene::new("p", one_file).await;
    for version in ["2", "4"] {
        let next = scene.root.join("next");
        fs::create_dir(&next).unwrap();
        fs::write(next.join("a.yaml"), version).unwrap();
        fs::rename(&scene.path, scene.root.join(format!("old{version}"))).unwrap();
        fs::rename(&next, &scene.path).unwrap();
        scene.reads(version).await;
    }
    fs::write(scene.path.join("a.yaml"), "5").unwrap();
    scene.reads("5").await;
}

#[tokio::test]
async fn a_link_turned_to_another_folder_is_told() {
    let scene = Scene::new("p", |root| {
        for version in ["1", "2"] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("a.yaml"), version).unwrap();
        }
        symlink("1", root.join("p")).unwrap();
    })
    .await;
    symlink("2", scene.root.join("tmp")).unwrap();
    fs::rename(scene.root.join("tmp"), &scene.path).unwrap();
    scene.reads("2").await;
    fs::write(scene.root.join("2/a.yaml"), "3").unwrap();
    scene.reads("3").await;
}

#[tokio::test]
async fn a_link_on_the_way_turned_elsewhere_is_told() {
    let scene = Scene::new("current/p", |root| {
        for version in ["1", "2"] {
            fs::create_dir_all(root.join(version).join("p")).unwrap();
            fs::write(root.join(version).join("p/a.yaml"), version).unwrap();
        }
        symlink("1", root.join("current")).unwrap();
    })
    .await;
    symlink("2", scene.root.join("tmp")).unwrap();
    fs::rename(scene.root.join("tmp"), scene.root.join("current")).unwrap();
    scene.reads("2").await;
}

#[tokio::test]
async fn a_path_that_does_not_exist_yet_is_told_when_it_does() {
    let scene = Scene::new("q/p", |_| ()).await;
    fs::create_dir_all(&scene.path).unwrap();
    fs::write(scene.path.join("a.yaml"), "1").unwrap();
    scene.reads("1").await;
}

#[tokio::test]
async fn a_single_file_is_watched_through_edits_and_renames() {
    let scene = Scene::new("p/a.yaml", one_file).await;
    fs::write(&scene.path, "2").unwrap();
    scene.reads("2").await;
    fs::write(scene.root.join("p/next"), "3").unwrap();
    fs::rename(scene.root.join("p/next"), &scene.path).unwrap();
    scene.reads("3").await;
    fs::remove_file(&scene.path).unwrap();
    scene.reads("missing").await;
}

#[tokio::test]
async fn without_the_kernel_the_poll_finds_changes() {
    let dir = TempDir::new().unwrap();
    one_file(dir.path());
    let path = dir.path().join("p");
    let config = WatchConfig {
        poll: Duration::from_millis(10),
        ..QUICK
    };
    let (tell, mut told) = mpsc::unbounded_channel();
    let watch = Watch::start(path.clone(), config, NO_KERNEL).await;
    let task = tokio::spawn(watch.run(move |changed| tell.send(changed).unwrap()));
    for (version, expected) in [("22", "22"), ("333", "333"), ("", "missing")] {
        if version.is_empty() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::write(path.join("a.yaml"), version).unwrap();
        }
        timeout(DEADLINE, async {
            while !(told.recv().await.unwrap() && text(&path) == expected) {}
        })
        .await
        .unwrap();
    }
    task.abort();
}

#[tokio::test]
async fn what_leaves_the_contents_alone_is_looked_at_and_not_told() {
    let dir = TempDir::new().unwrap();
    one_file(dir.path());
    let path = dir.path().join("p");
    let (tell, mut told) = mpsc::unbounded_channel();
    let watch = Watch::start(path.clone(), QUICK, KERNEL).await;
    let task = tokio::spawn(watch.run(move |changed| tell.send(changed).unwrap()));
    // Written again, an editor's file beside it, read by somebody else.
    fs::write(path.join("a.yaml"), "1").unwrap();
    fs::write(path.join(".a.yaml.swp"), "x").unwrap();
    assert_eq!(text(&path), "1");
    assert_eq!(timeout(DEADLINE, told.recv()).await.unwrap(), Some(false));
    fs::write(path.join("a.yaml"), "2").unwrap();
    timeout(DEADLINE, async { while !told.recv().await.unwrap() {} })
        .await
        .unwrap();
    assert_eq!(text(&path), "2");
    task.abort();
}

#[tokio::test]
async fn a_change_that_nobody_waited_for_is_told_later() {
    let scene = Scene::new("p", one_file).await;
    for version in ["2", "3", "4"] {
        fs::write(scene.path.join("a.yaml"), version).unwrap();
    }
    // Whoever gives up waiting loses nothing.
    let hurried = timeout(Duration::ZERO, scene.watcher.changed()).await;
    assert!(hurried.is_err());
    scene.reads("4").await;
}

#[tokio::test]
async fn what_somebody_read_and_no_look_saw_is_told_when_it_is_gone() {
    let scene = Scene::new("p", one_file).await;
    let read = || Fingerprint::of(&files::read(&scene.path));
    // Written, read and taken back before anybody looked.
    let before = read();
    fs::write(scene.path.join("a.yaml"), "2").unwrap();
    scene.watcher.was_read(read());
    fs::write(scene.path.join("a.yaml"), "1").unwrap();
    assert_eq!(read(), before);
    scene.reads("1").await;
    // Half a file, read by somebody who came too early, who is told even if nothing happens after.
    let half = vec![files::PolicyFile {
        name: "a.yaml".to_owned(),
        bytes: Vec::new(),
    }];
    scene.watcher.was_read(Fingerprint::of(&Ok(half)));
    scene.reads("1").await;
}

#[tokio::test]
async fn a_look_that_fails_is_tried_again() {
    static LOOKS: AtomicU32 = AtomicU32::new(0);
    const BROKEN_AT_FIRST: Open = |handler| {
        let broken = LOOKS.fetch_add(1, Ordering::Relaxed) < 2;
        assert!(!broken, "a look that fails on purpose");
        KERNEL(handler)
    };
    let dir = TempDir::new().unwrap();
    one_file(dir.path());
    let config = WatchConfig {
        poll: Duration::from_millis(10),
        ..QUICK
    };
    let path = dir.path().join("p");
    let (tell, mut told) = mpsc::unbounded_channel();
    let watch = Watch::start(path.clone(), config, BROKEN_AT_FIRST).await;
    let task = tokio::spawn(watch.run(move |changed| tell.send(changed).unwrap()));
    fs::write(path.join("a.yaml"), "2").unwrap();
    timeout(DEADLINE, async {
        while LOOKS.load(Ordering::Relaxed) < 3 {
            assert!(told.recv().await.unwrap(), "a failed look leaves doubt");
        }
    })
    .await
    .unwrap();
    task.abort();
}
