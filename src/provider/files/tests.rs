use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

/// A folder with these files, and folders for them.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// Name, without the folder's, and text of each file.
fn read_in(dir: &TempDir) -> Vec<(String, String)> {
    let prefix = format!("{}/", dir.path().display());
    read(dir.path())
        .unwrap()
        .into_iter()
        .map(|file| {
            let name = file.name.strip_prefix(&prefix).unwrap().to_owned();
            (name, String::from_utf8(file.bytes).unwrap())
        })
        .collect()
}

fn names_in(dir: &TempDir) -> Vec<String> {
    read_in(dir).into_iter().map(|(name, _)| name).collect()
}

/// The error, and that it names `part`.
fn refused(path: &Path, part: &str) -> ReadError {
    let error = read(path).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(part), "{text}");
    error
}

#[test]
fn files_of_all_folders_come_in_name_order() {
    let dir = folder(&[
        ("b.yaml", "3"),
        ("a/z.yml", "1"),
        ("a.yaml", "2"),
        ("b/x/y.yaml", "4"),
    ]);
    let expected = ["a/z.yml", "a.yaml", "b/x/y.yaml", "b.yaml"];
    assert_eq!(names_in(&dir), expected);
    assert_eq!(read_in(&dir)[1], ("a.yaml".to_owned(), "2".to_owned()));
}

#[test]
fn only_yaml_counts_and_nothing_hidden() {
    let dir = folder(&[
        ("a.yaml", ""),
        ("README.md", ""),
        ("b.yaml.bak", ""),
        (".c.yaml", ""),
        ("..2024_1/d.yaml", ""),
        (".git/e.yaml", ""),
        ("lost+found/f.yaml", ""),
        ("yaml", ""),
        ("G.YAML", ""),
    ]);
    assert_eq!(names_in(&dir), ["a.yaml"]);
}

#[test]
fn a_file_that_is_named_itself_may_be_called_anything() {
    let dir = folder(&[(".limits.conf", "domain: x")]);
    let path = dir.path().join(".limits.conf");
    let files = read(&path).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].name, path.display().to_string());
    assert_eq!(files[0].bytes, b"domain: x");
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let dir = folder(&[("..2024_1/a.yaml", "a"), ("..2024_1/b.yaml", "b")]);
    symlink("..2024_1", dir.path().join("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let expected = [("a.yaml", "a"), ("b.yaml", "b")];
    assert_eq!(
        read_in(&dir),
        expected.map(|(n, t)| (n.to_owned(), t.to_owned()))
    );
}

#[test]
fn a_linked_folder_is_followed() {
    let elsewhere = folder(&[("x.yaml", "x")]);
    let dir = folder(&[("a.yaml", "a")]);
    symlink(elsewhere.path(), dir.path().join("more")).unwrap();
    assert_eq!(names_in(&dir), ["a.yaml", "more/x.yaml"]);
}

#[test]
fn a_link_to_a_folder_above_is_refused() {
    let dir = folder(&[("a/b/c.yaml", "")]);
    symlink("../..", dir.path().join("a/b/up")).unwrap();
    let error = refused(dir.path(), "a/b/up");
    assert!(matches!(error, ReadError::Loop(_)), "{error:?}");
}

#[test]
fn a_link_to_itself_is_refused() {
    let dir = folder(&[("a.yaml", "")]);
    symlink("b.yaml", dir.path().join("b.yaml")).unwrap();
    let error = refused(dir.path(), "b.yaml");
    assert!(matches!(error, ReadError::Unreadable { .. }), "{error:?}");
}

#[test]
fn a_policy_that_links_to_nothing_is_refused_and_other_such_links_are_not() {
    let dir = folder(&[("a.yaml", "a")]);
    symlink("gone", dir.path().join("notes")).unwrap();
    assert_eq!(names_in(&dir), ["a.yaml"]);
    symlink("gone", dir.path().join("b.yaml")).unwrap();
    refused(dir.path(), "link to something that does not exist");
}

#[test]
fn no_policies_at_all_are_refused() {
    let dir = folder(&[("README.md", ""), (".hidden.yaml", "")]);
    let error = refused(dir.path(), "everything would be allowed");
    assert!(matches!(error, ReadError::Empty(_)), "{error:?}");
}

#[test]
fn a_missing_path_is_refused_with_what_to_do() {
    let dir = folder(&[]);
    let path = dir.path().join("policies");
    let error = refused(&path, "does not exist; create it");
    assert!(error.to_string().contains(&path.display().to_string()));
}

#[test]
fn a_name_that_is_a_folder_in_a_file_is_refused() {
    let dir = folder(&[("a.yaml", "")]);
    refused(&dir.path().join("a.yaml/b"), "cannot read");
}

#[test]
fn a_socket_or_pipe_is_refused_and_not_waited_for() {
    let dir = folder(&[("a.yaml", "")]);
    let _listener = UnixListener::bind(dir.path().join("s.yaml")).unwrap();
    let error = refused(dir.path(), "s.yaml");
    assert!(matches!(error, ReadError::NotAFile(_)), "{error:?}");
}

#[test]
fn what_may_not_be_read_is_refused() {
    let dir = folder(&[("a.yaml", "")]);
    let path = dir.path().join("a.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        // Root may read everything; the text is what can be looked at.
        let error = ReadError::Unreadable {
            path,
            error: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        assert!(
            error.to_string().contains("the right to read it"),
            "{error}"
        );
    } else {
        refused(dir.path(), "the right to read it");
    }
}

#[test]
fn a_file_beyond_the_cap_is_refused() {
    let dir = folder(&[("a.yaml", "")]);
    let large = File::create(dir.path().join("b.yaml")).unwrap();
    large.set_len(MAX_FILE_BYTES).unwrap();
    assert_eq!(read(dir.path()).unwrap().len(), 2);
    large.set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = refused(dir.path(), "larger than 64 MiB");
    assert!(matches!(error, ReadError::TooLarge(_)), "{error:?}");
}

#[test]
fn too_many_files_are_refused() {
    let dir = folder(&[]);
    for i in 0..=MAX_FILES {
        File::create(dir.path().join(format!("{i}.yaml"))).unwrap();
    }
    let error = refused(dir.path(), "more than 10000 policy files");
    assert!(matches!(error, ReadError::TooManyFiles(_)), "{error:?}");
}

#[test]
fn what_changes_while_it_is_read_is_read_again_and_never_half() {
    let dir = folder(&[("a.yaml", "0"), ("b.yaml", "0")]);
    let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 1..=2_000 {
                fs::write(&a, format!("{version}")).unwrap();
                fs::write(&b, format!("{version}")).unwrap();
            }
        });
        while !writer.is_finished() {
            match read(dir.path()) {
                Ok(files) => {
                    let text = |i: usize| String::from_utf8(files[i].bytes.clone()).unwrap();
                    let [a, b] = [text(0), text(1)].map(|t| t.parse::<u32>().unwrap_or(0));
                    // The writer itself leaves the two a version apart, never more.
                    assert!(a == 0 || b == 0 || a.abs_diff(b) <= 1, "{a} and {b}");
                }
                Err(error) => assert!(matches!(error, ReadError::Changing(_)), "{error}"),
            }
        }
    });
    assert_eq!(read_in(&dir)[1].1, "2000");
}

#[test]
fn fingerprints_tell_contents_names_and_errors_apart() {
    let file = |name: &str, text: &str| PolicyFile {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let print = |files: &[PolicyFile]| Fingerprint::of(&Ok(files.to_vec()));
    let a = print(&[file("a", "1")]);
    assert_eq!(a, print(&[file("a", "1")]));
    let missing = Err(ReadError::Missing(PathBuf::from("a")));
    let empty = Err(ReadError::Empty(PathBuf::from("a")));
    let all = [
        a,
        print(&[file("a", "2")]),
        print(&[file("b", "1")]),
        print(&[file("a1", "")]),
        print(&[file("a", "1"), file("b", "1")]),
        print(&[]),
        Fingerprint::of(&missing),
        Fingerprint::of(&empty),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(!all[..i].contains(one), "{i}");
    }
    let shown = a.to_string();
    assert!(shown.len() == 16 && shown.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn the_same_files_below_another_folder_have_the_same_fingerprint() {
    let print = |root: &str, name: &str, text: &str| {
        let file = PolicyFile {
            name: name.to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        Fingerprint::below(Path::new(root), &[file])
    };
    let one = print("/etc/policies", "/etc/policies/shop/a.yaml", "1");
    assert_eq!(one, print("policies/", "policies/shop/a.yaml", "1"));
    assert_ne!(one, print("policies", "policies/a.yaml", "1"));
    assert_ne!(one, print("policies", "policies/shop/a.yaml", "2"));
}

#[test]
fn an_empty_path_is_told_as_such() {
    let error = refused(Path::new(""), "the policies path is empty");
    assert!(matches!(error, ReadError::NoPath), "{error:?}");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_without_waiting_for_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert!(matches!(content(&path), Err(ReadError::NotAFile(_))));
    assert!(matches!(
        is_content(&path, b""),
        Err(ReadError::NotAFile(_))
    ));
}
