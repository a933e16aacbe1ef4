//! The binary, as a person runs it.

use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::harness::{Harness, until};

pub(crate) fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = tollgate(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

pub(crate) const POLICY: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { name: per-user, requests_per_unit: 2, unit: minute }
  - key: user
    value: root
";

fn folder(policy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), policy).unwrap();
    folder
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn check_tells_every_problem_and_how_many() {
    let good = folder(POLICY);
    let (code, out, _) = run(&["check", text(good.path())]);
    assert_eq!(code, 0);
    assert!(
        out.contains("1 file, 1 domain: no errors, 0 warnings"),
        "{out}"
    );

    let bad = folder(
        "domain: shop\ndescriptors:\n  - key: a\n    rate_limit: { unit: minutes, requests_per_unit: 1 }\n  - kee: b\n",
    );
    let (code, out, err) = run(&["check", text(bad.path())]);
    assert_eq!(code, 1);
    assert!(
        out.contains("shop.yaml:4:25: descriptors[0].rate_limit.unit:"),
        "{out}"
    );
    assert!(out.contains("did you mean"), "{out}");
    assert!(out.contains("shop.yaml:5:5:"), "{out}");
    assert!(err.contains("3 errors, 0 warnings in 1 file\n"), "{err}");

    assert_eq!(run(&["check", "/nowhere"]).0, 1);
    assert_eq!(run(&["check"]).0, 2);
}

#[test]
fn help_names_every_command() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for command in [
        "serve",
        "check",
        "explain",
        "query",
        "reset",
        "schema",
        "top",
        "healthcheck",
        "completions",
    ] {
        assert!(out.contains(command), "{out}");
        let (code, help, _) = run(&[command, "--help"]);
        assert_eq!(code, 0);
        assert!(help.len() > 200, "{help}");
    }
    assert_eq!(run(&["serve", "--nonsense"]).0, 2);
    assert_eq!(
        run(&["--version"]).1,
        format!("tollgate {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(run(&["completions", "bash"]).1.contains("complete"));
    let schema: serde_json::Value = serde_json::from_str(&run(&["schema"]).1).unwrap();
    assert!(schema["$schema"].is_string());
}

#[test]
fn explain_reads_policies() {
    let folder = folder(POLICY);
    let explain = |descriptor| {
        run(&[
            "explain",
            "--policies",
            text(folder.path()),
            "shop",
            descriptor,
        ])
    };
    let (code, out, _) = explain("user=alice");
    assert_eq!(code, 0);
    for part in [
        "rule     user \"per-user\"",
        "shop.yaml:",
        "{shop|user=alice}:window:60s",
        "user=root",
        "2 per minute",
    ] {
        assert!(out.contains(part), "{out}");
    }
    let (_, out, _) = explain("user=root");
    assert!(out.contains("exempts"), "{out}");
    let (_, out, _) = explain("other=x");
    assert!(out.contains("rule     none"), "{out}");
    assert_eq!(explain("user").0, 2);
    assert_eq!(run(&["explain", "shop", "user=x"]).0, 2);
}

#[test]
fn explain_shows_a_descriptor_as_it_is_typed() {
    let folder = folder(POLICY);
    let path = text(folder.path());
    let (_, out, _) = run(&[
        "explain",
        "--policies",
        path,
        "shop",
        r"user=a\,b=c,x\=y=\\",
    ]);
    assert!(
        out.starts_with("shop  user=a\\,b=c,x\\=y=\\\\  hits 1\n"),
        "{out}"
    );
    assert!(out.contains("\nuser=a\\,b=c\n"), "{out}");
}

#[test]
fn explain_names_the_domain_that_was_meant_or_a_few() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..12 {
        let policy = POLICY.replace("shop", &format!("area-{number:02}"));
        std::fs::write(folder.path().join(format!("{number}.yaml")), policy).unwrap();
    }
    let explain = |domain| {
        let (code, out, _) = run(&["explain", "--policies", text(folder.path()), domain, "a=b"]);
        assert_eq!(code, 0);
        out
    };
    let out = explain("Area_03");
    assert!(
        out.contains("`Area_03` is not configured (did you mean `area-03`?)"),
        "{out}"
    );
    let out = explain("shop");
    assert!(out.contains("(configured: area-00, area-01, "), "{out}");
    assert!(out.contains("area-09 and 2 more)"), "{out}");
}

/// A folder with policies that only some settings accept, and those settings beside it.
fn settings_decide() -> (tempfile::TempDir, [String; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_owned();
    let policies = path("policies");
    std::fs::create_dir(&policies).unwrap();
    let limit = "requests_per_unit: 5, unit: minute";
    let burst =
        format!("domain: a\ndescriptors: [{{key: k, rate_limit: {{{limit}, burst: 9}}}}]\n");
    std::fs::write(format!("{policies}/a.yaml"), &burst).unwrap();
    std::fs::write(format!("{policies}/b.yaml"), burst.replace("k,", "l,")).unwrap();
    let good = path("good.conf");
    let settings = format!(
        "policies: {{path: '{policies}', merge_domains: true}}\ndefaults: {{algorithm: token_bucket}}\n"
    );
    std::fs::write(&good, settings).unwrap();
    let bad = path("bad.conf");
    std::fs::write(&bad, "defaults: {algorithm: bucket}\n").unwrap();
    (folder, [policies, good, bad])
}

#[test]
fn check_judges_policies_by_the_settings_they_are_served_with() {
    let (_folder, [policies, good, bad]) = settings_decide();
    // By the defaults a burst is out of place, and a domain may not stand twice.
    let (code, out, err) = run(&["check", &policies]);
    assert_eq!(code, 1);
    assert!(out.contains("burst: only for token_bucket"), "{out}");
    assert!(out.contains("duplicate domain"), "{out}");
    assert!(err.contains("3 errors, 0 warnings in 2 files"), "{err}");
    for arguments in [
        &["check", "--config", &good][..],
        &["check", "--config", &good, &policies],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, "2 files, 1 domain: no errors, 0 warnings\n");
    }
    let (code, _, err) = run(&["check", "--config", &bad]);
    assert_eq!(code, 1);
    assert!(
        err.contains("bad.conf:1:23: defaults.algorithm: unknown value"),
        "{err}"
    );
    // The environment holds as it does for serve.
    let checked = tollgate(&["check", "--merge-domains", &policies])
        .env("TOLLGATE_DEFAULTS__ALGORITHM", "token_bucket")
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let checked = tollgate(&["check", &policies])
        .env("TOLLGATE_THREADS", "many")
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("TOLLGATE_THREADS"));
}

#[test]
fn explain_reads_policies_with_the_settings_they_are_served_with() {
    let (_folder, [policies, good, _]) = settings_decide();
    let (code, _, err) = run(&["explain", "--policies", &policies, "a", "k=x"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("burst") && err.contains("duplicate domain"),
        "{err}"
    );
    let (code, out, _) = run(&["explain", "--config", &good, "a", "l=x"]);
    assert_eq!(code, 0);
    assert!(out.contains("burst 9"), "{out}");
    let (first, second) = (format!("{policies}/a.yaml"), format!("{policies}/b.yaml"));
    let (code, out, err) = run(&[
        "explain",
        "--config",
        &good,
        "--policies",
        &first,
        "--policies",
        &second,
        "a",
        "l=x",
    ]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("b.yaml:2:"), "{out}");
    let both = ["explain", "--admin", "h:1", "--config", &good, "a", "k=x"];
    assert_eq!(run(&both).0, 2);
}

#[test]
fn check_reads_on_after_what_cannot_be_read() {
    let bad = "domain: a\ndescriptors: 5\n";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["one", "one/deep", "empty", "last"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    std::fs::write(path("one/a.yaml"), bad).unwrap();
    std::fs::write(path("one/deep/b.yaml"), bad).unwrap();
    std::fs::write(path("last/z.yaml"), bad).unwrap();
    std::os::unix::fs::symlink("/nowhere", path("one/gone.yaml")).unwrap();
    std::os::unix::fs::symlink(path("one"), path("one/deep/up")).unwrap();
    let paths = ["one", "absent", "empty", "last"].map(|name| text(&path(name)).to_owned());
    let mut arguments = vec!["check"];
    arguments.extend(paths.iter().map(String::as_str));
    let (code, out, err) = run(&arguments);
    assert_eq!(code, 1);
    for name in [
        "one/a.yaml:2:14",
        "one/deep/b.yaml:2:14",
        "last/z.yaml:2:14",
    ] {
        assert!(out.contains(name), "{out}");
    }
    for name in [
        "one/gone.yaml",
        "one/deep/up is a link to a folder that contains it",
        "absent does not exist",
        "empty has no policy",
    ] {
        assert!(err.contains(name), "{err}");
    }
}

#[tokio::test]
async fn query_ends_with_the_last_answer() {
    let harness = Harness::with_policy(POLICY).await;
    let query = |descriptor: &'static str, repeat: &'static str| {
        let address = harness.grpc.clone();
        tokio::task::spawn_blocking(move || {
            run(&[
                "query", "--addr", &address, "shop", descriptor, "--repeat", repeat,
            ])
        })
    };
    let (code, out, _) = query("user=x", "2").await.unwrap();
    assert_eq!(code, 0);
    assert!(
        out.contains("OK         1 left of 2 per minute \"per-user\""),
        "{out}"
    );
    let (code, out, _) = query("user=x", "1").await.unwrap();
    assert_eq!(code, 3);
    assert!(out.starts_with("OVER_LIMIT"), "{out}");
    let address = harness.admin.clone();
    let explained = tokio::task::spawn_blocking(move || {
        run(&["explain", "--admin", &address, "shop", "user=x"])
    });
    let (code, out, _) = explained.await.unwrap();
    assert_eq!(code, 0);
    assert!(
        out.contains("counted  2 (by memory)") && out.contains("OVER_LIMIT"),
        "{out}"
    );
    // Each command says which listener it wants.
    let (http, grpc) = (harness.http.clone(), harness.grpc.clone());
    tokio::task::spawn_blocking(move || {
        for (arguments, wanted) in [
            (
                &["query", "--addr", &http, "shop", "user=x"][..],
                "listen.grpc",
            ),
            (
                &["explain", "--admin", &http, "shop", "user=x"],
                "listen.admin",
            ),
            (
                &["explain", "--admin", &grpc, "shop", "user=x"],
                "the right listener?",
            ),
            (&["healthcheck", "--addr", &grpc], "the right listener?"),
        ] {
            let (code, _, err) = run(arguments);
            assert_eq!(code, 1, "{arguments:?}");
            assert!(err.contains(wanted), "{arguments:?}\n{err}");
        }
    })
    .await
    .unwrap();
    for address in ["foo", "http://127.0.0.1:8081"] {
        let (code, _, err) = run(&["query", "--addr", address, "shop", "user=x"]);
        assert_eq!(code, 2);
        assert!(
            err.contains("no address") || err.contains("neither an address"),
            "{err}"
        );
    }
    let health = harness.http.clone();
    let healthy = tokio::task::spawn_blocking(move || run(&["healthcheck", "--addr", &health]));
    assert_eq!(healthy.await.unwrap().0, 0);
    let (code, _, err) = run(&["query", "--addr", "127.0.0.1:1", "shop", "user=x"]);
    assert_eq!(code, 1);
    assert!(err.contains("is Tollgate running there?"), "{err}");
    assert_eq!(run(&["healthcheck", "--addr", "127.0.0.1:1"]).0, 1);
}

#[tokio::test]
async fn query_shows_a_denial_that_is_not_enforced() {
    let policies = [("shop.yaml", POLICY)];
    let settings = "defaults: { shadow_mode: true }\n";
    let harness = Harness::start(&policies, settings).await.unwrap();
    let address = harness.grpc.clone();
    let asked = tokio::task::spawn_blocking(move || {
        run(&["query", "--addr", &address, "shop", "user=x", "--hits", "3"])
    });
    let (code, out, _) = asked.await.unwrap();
    assert_eq!(code, 0);
    assert!(
        out.starts_with("OK         (OVER_LIMIT, not enforced) 0 left of 2"),
        "{out}"
    );
}

/// A `tollgate serve` of its own process; killed when dropped.
pub(crate) struct Served {
    child: Child,
    /// What was logged after the start.
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) admin: String,
}

impl Served {
    /// Starts, and waits until it says that it is ready. Returns what it logged by then.
    pub(crate) fn start(arguments: &[&str]) -> (Self, Vec<String>) {
        let mut command = tollgate(&["serve"]);
        command.args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen: Vec<String> = Vec::new();
        for line in lines.by_ref() {
            seen.push(line.unwrap());
            if seen.last().unwrap().contains(" ready ") {
                break;
            }
        }
        let log = Arc::new(Mutex::new(Vec::new()));
        let later = Arc::clone(&log);
        std::thread::spawn(move || lines.for_each(|line| later.lock().push(line.unwrap())));
        let ready = seen.last().map(String::as_str).unwrap_or_default();
        let address = |name: &str| {
            let found = ready
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name));
            found.unwrap_or_default().trim_matches('"').to_owned()
        };
        (
            Self {
                child,
                log,
                grpc: address("grpc="),
                http: address("http="),
                admin: address("admin="),
            },
            seen,
        )
    }

    /// Waits until a line with `part` is logged after the start.
    pub(crate) async fn logged(&self, part: &str) -> String {
        let mut found = None;
        until(&format!("the log says {part}"), async || {
            let log = self.log.lock();
            found = log.iter().find(|line| line.contains(part)).cloned();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until it ends; its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until("it ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn serve_listens_on_unix_sockets_and_ends_on_a_signal() {
    let folder = folder(POLICY);
    let socket = folder.path().join("grpc.sock");
    let settings = folder.path().join("tollgate.conf");
    std::fs::write(&settings, "shutdown: { drain_delay: 0s, grace: 1s }\n").unwrap();
    let grpc = format!("unix:{}", text(&socket));
    let arguments = [
        "--config",
        text(&settings),
        "--policies",
        text(folder.path()),
        "--grpc",
        &grpc,
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let (mut served, lines) = Served::start(&arguments);
    assert!(lines.last().unwrap().contains("grpc.sock"), "{lines:?}");
    assert_eq!(run(&["query", "--addr", &grpc, "shop", "user=x"]).0, 0);
    // Envoy runs as another user.
    let mode = socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    // A second server does not take the socket from the first.
    let mut second = tollgate(&["serve"]);
    let refused = second.args(arguments).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("listen.grpc"));
    served.signal("-TERM");
    assert_eq!(served.ended().await, Some(0));
    assert!(!socket.exists());
    // A socket file that was left behind is taken over.
    let (served, _) = Served::start(&arguments);
    served.signal("-KILL");
    drop(served);
    assert!(socket.exists());
    let (_served, lines) = Served::start(&arguments);
    assert!(lines.last().unwrap().contains("ready"), "{lines:?}");
}

#[test]
fn serve_refuses_bad_settings_and_policies_with_exit_1() {
    let good = folder(POLICY);
    let bad = folder("domain: shop\ndescriptors: 5\n");
    let (code, _, err) = run(&[
        "serve",
        "--policies",
        text(bad.path()),
        "--grpc",
        "127.0.0.1:0",
    ]);
    assert_eq!(code, 1);
    assert!(err.contains("shop.yaml:2:"), "{err}");
    let settings = good.path().join("t.conf");
    std::fs::write(&settings, "limits:\n  in_fligth: 5\n").unwrap();
    let (code, _, err) = run(&["serve", "--config", text(&settings)]);
    assert_eq!(code, 1);
    assert!(
        err.contains("in_fligth") && err.contains("in_flight"),
        "{err}"
    );
    let variable = tollgate(&["serve", "--policies", text(good.path())])
        .env("ODD", std::ffi::OsStr::from_bytes(b"\xff"))
        .env("TOLLGATE_LIMITS__IN_FLIGHT", "many")
        .output()
        .unwrap();
    assert_eq!(variable.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&variable.stderr).contains("TOLLGATE_LIMITS__IN_FLIGHT"));
}
