//! What the log says, and what it never says.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cli::{POLICY, Served, run, text, tollgate};
use crate::harness::until;

/// A folder with settings and a folder of policies.
struct Shop(tempfile::TempDir);

impl Shop {
    fn new(settings: &str) -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(shop.path("policies")).unwrap();
        std::fs::write(shop.path("policies/shop.yaml"), POLICY).unwrap();
        std::fs::write(shop.path("tollgate.yaml"), settings).unwrap();
        shop
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// How to serve it on free ports.
    fn arguments(&self) -> Vec<String> {
        let (settings, policies) = (self.path("tollgate.yaml"), self.path("policies"));
        let mut arguments = vec!["--config", text(&settings), "--policies", text(&policies)];
        for listener in ["--grpc", "--http", "--admin"] {
            arguments.extend([listener, "127.0.0.1:0"]);
        }
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn serve(&self) -> (Served, Vec<String>) {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Served::start(&arguments)
    }
}

/// A server that answers everything it is sent with an error that repeats it, as it came.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = vec![0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                    let said = String::from_utf8_lossy(&bytes[..read]);
                    let words: Vec<&str> = said.split("\r\n").collect();
                    // Not in the words of Redis, whose arguments are cut off.
                    let answer = format!("-ERR you sent {}\r\n", words.join(" "));
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn no_level_shows_a_password_that_a_server_repeats() {
    let address = echo().await;
    for user in ["", "hans"] {
        let shop = Shop::new(&format!(
            "store: {{kind: redis, redis: {{url: 'redis://{user}:hunter2-and-more@{address}'}}}}\n\
             circuit_breaker: {{probe_interval: 20ms}}\n\
             telemetry: {{log: {{level: trace}}}}\n"
        ));
        let (served, mut log) = shop.serve();
        until("the server has refused it several times", async || {
            log.append(&mut served.log.lock());
            let refused = |line: &&String| line.contains("you sent");
            log.iter().filter(refused).count() > 2
        })
        .await;
        let leak = log.iter().find(|line| line.contains("hunter2"));
        assert!(leak.is_none(), "{leak:?}");
        assert!(log.iter().any(|line| line.contains("***")), "{log:?}");
        // The client library has nothing to say.
        let other = log.iter().find(|line| line.contains(" fred"));
        assert!(other.is_none(), "{other:?}");
    }
}

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn a_log_in_the_folder_of_policies_does_not_feed_itself() {
    let shop = Shop::new("telemetry: {log: {level: trace}}\n");
    let file = shop.path("policies/tollgate.log");
    let mut command = tollgate(&["serve"]);
    command
        .args(shop.arguments())
        .stdout(Stdio::null())
        .stderr(File::create(&file).unwrap());
    let served = Running(command.spawn().unwrap());
    let lines = || -> Vec<String> {
        let log = std::fs::read_to_string(&file).unwrap();
        log.lines().map(str::to_owned).collect()
    };
    let count = |part: &str| lines().iter().filter(|line| line.contains(part)).count();
    until("it is ready", async || count(" ready ") == 1).await;
    for number in 1..=3 {
        let policy = POLICY.replace(
            "requests_per_unit: 2",
            &format!("requests_per_unit: {number}0"),
        );
        std::fs::write(shop.path("policies/shop.yaml"), policy).unwrap();
        until("the change is in force", async || {
            count("policies reloaded") == number
        })
        .await;
    }
    drop(served);
    let lines = lines();
    assert!(
        lines.len() < 200,
        "{} lines: {:#?}",
        lines.len(),
        lines.get(..200)
    );
    // Each change was looked at, and nothing else was: not what the log said of it.
    let looks = lines
        .iter()
        .filter(|line| line.contains("policies looked at"))
        .count();
    assert!((3..=12).contains(&looks), "{looks} looks: {lines:#?}");
}

#[tokio::test]
async fn debug_says_what_is_decided_and_why() {
    let shop = Shop::new("telemetry: {log: {level: debug}}\n");
    let (served, _) = shop.serve();
    let query = |domain: &str, descriptors: &[&str]| {
        let mut arguments = vec!["query", "--addr", &served.grpc, domain];
        arguments.extend(descriptors);
        run(&arguments)
    };
    query("shop", &["user=ann"]);
    for part in [
        " DEBUG tollgate::limiter::log: query decided domain=shop verdict=\"OK\"",
        "descriptors=(user=ann) hits=1 rule=user outcome=allowed source=memory count=1 limit=2 \
         window=60000ms remaining=1 reset=",
    ] {
        served.logged(part).await;
    }
    query("shop", &["user=ann"]);
    query("shop", &["user=ann"]);
    let denied = served.logged("verdict=\"OVER_LIMIT\"").await;
    assert!(
        denied.contains("outcome=denied source=memory count=2 limit=2"),
        "{denied}"
    );
    query("shop", &["user=\u{1b}[31m\nx"]);
    served.logged("(user=\"\\u{1b}[31m\\nx\")").await;
    query("shop", &["plan=gold"]);
    served
        .logged("(plan=gold) hits=1 no rule: nothing matches plan=gold")
        .await;
    query("other", &["user=ann"]);
    served.logged("domain=other verdict=\"OK\" descriptors=(user=ann) hits=1 no rule: no policy has this domain").await;
    // Connections, too; and nothing of what libraries do.
    served
        .logged("tollgate::transport::server: connection opened peer=")
        .await;
    let log = served.log.lock();
    let other = log.iter().find(|line| !line.contains(" tollgate::"));
    assert!(other.is_none(), "{other:?}");
}

#[tokio::test]
async fn ready_names_the_store_and_not_its_password() {
    let ready = |settings: &str| {
        let (_served, log) = Shop::new(settings).serve();
        log.last().unwrap().clone()
    };
    let memory = ready("");
    assert!(
        memory.ends_with("store=\"memory\" replicas=\"each counts alone\""),
        "{memory}"
    );
    for (redis, shown) in [
        (
            "url: 'redis://u:hunter2@127.0.0.1:1/3'",
            "store=\"redis\" topology=\"single\" servers=\"127.0.0.1:1\" replicas=\"auto\"",
        ),
        (
            "url: 'redis://127.0.0.1:1', failover_urls: ['redis://:hunter2@127.0.0.1:2'], \
             per_second_url: 'redis://:hunter2@127.0.0.1:3'",
            "topology=\"failover list\" servers=\"127.0.0.1:1, 127.0.0.1:2\" \
             per_second_servers=\"127.0.0.1:3\" replicas=\"auto\"",
        ),
        (
            "url: 'redis-sentinel://:hunter2@127.0.0.1:1?node=127.0.0.1:2&sentinelServiceName=m&\
             sentinelPassword=hunter2'",
            "topology=\"sentinel\" servers=\"m at 127.0.0.1:1, 127.0.0.1:2\" replicas=\"auto\"",
        ),
        (
            "url: 'redis-cluster://:hunter2@127.0.0.1:1?node=127.0.0.1:2'",
            "topology=\"cluster\" servers=\"127.0.0.1:1, 127.0.0.1:2\" replicas=\"auto\"",
        ),
    ] {
        let line = ready(&format!("store: {{kind: redis, redis: {{{redis}}}}}\n"));
        assert!(line.ends_with(shown), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    let fixed =
        ready("store: {kind: redis, redis: {url: 'redis://127.0.0.1:1'}}\nfleet: {replicas: 3}\n");
    assert!(fixed.ends_with("replicas=\"3\""), "{fixed}");
}

#[test]
fn settings_that_let_everything_pass_are_told_at_start() {
    let settings = "defaults: {shadow_mode: true}\ndomains: {shop: {enforce_percent: 20}}\n";
    let (_served, log) = Shop::new(settings).serve();
    let told = log
        .iter()
        .find(|line| line.contains("limits are not enforced in full"));
    let told = told.unwrap_or_else(|| panic!("{log:#?}"));
    assert!(told.contains(" WARN "), "{told}");
    let which = "settings=\"defaults.shadow_mode: true, domains.shop.enforce_percent: 20\"";
    assert!(told.contains(which), "{told}");
    let (_served, log) = Shop::new("").serve();
    assert_eq!(log.len(), 1, "{log:#?}");
}

#[test]
fn limits_that_cannot_be_divided_are_logged_at_start() {
    let redis = "store: {kind: redis, redis: {url: 'redis://127.0.0.1:1'}}\n";
    let settings = format!("{redis}fleet: {{replicas: 10000}}\n");
    let (_served, log) = Shop::new(&settings).serve();
    let few = log
        .iter()
        .find(|line| line.contains("limits below fleet.replicas"));
    let few = few.unwrap_or_else(|| panic!("{log:#?}"));
    assert!(
        few.contains(" WARN ") && few.contains("first=\"shop: "),
        "{few}"
    );
    let (_served, log) = Shop::new(redis).serve();
    assert!(
        !log.iter().any(|line| line.contains("limits below")),
        "{log:#?}"
    );
}

/// What the log of a start says, until it is ready, with these variables.
fn start(shop: &Shop, env: &[(&str, &str)]) -> String {
    use std::io::BufRead;
    let mut command = tollgate(&["serve"]);
    command.args(shop.arguments()).envs(env.iter().copied());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut served = Running(command.spawn().unwrap());
    let lines = std::io::BufReader::new(served.0.stderr.take().unwrap()).lines();
    let mut log = String::new();
    for line in lines.map_while(Result::ok) {
        log.push_str(&line);
        log.push('\n');
        if line.contains(" ready ") {
            return log;
        }
    }
    panic!("it did not start:\n{log}");
}

#[test]
fn another_services_variables_are_warned_of_and_kubernetes_own_are_not() {
    let shop = Shop::new("");
    let log = start(
        &shop,
        &[
            ("REDIS_URL", "redis://:hunter2@redis:6379"),
            ("REDIS_AUTH", "hunter2"),
            ("RUNTIME_ROOT", "/data/ratelimit"),
            ("SHADOW_MODE", "true"),
            ("USE_STATSD", "false"),
            ("TOLLGATE_PORT", "tcp://10.0.0.1:8081"),
            ("TOLLGATE_PORT_8081_TCP_ADDR", "10.0.0.1"),
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
        ],
    );
    for name in [
        "REDIS_URL",
        "REDIS_AUTH",
        "RUNTIME_ROOT",
        "SHADOW_MODE",
        "USE_STATSD",
    ] {
        let named = |line: &&str| line.contains(" WARN ") && line.contains(&format!(" {name}: "));
        assert_eq!(log.lines().filter(named).count(), 1, "{name}: {log}");
    }
    assert_eq!(log.lines().count(), 6, "{log}");
    assert!(
        log.contains("N replicas together admit N times each limit"),
        "{log}"
    );
    assert!(
        !log.contains("hunter2") && !log.contains("TOLLGATE_PORT"),
        "{log}"
    );
}

#[tokio::test]
async fn files_that_do_not_exist_are_refused_by_check_and_serve_alike() {
    let settings = "store:\n  kind: redis\n  redis:\n    url: rediss://127.0.0.1:1\n    \
                    password_file: /none/password\n    tls:\n      ca_file: /none/ca.pem\n\
                    admin:\n  token_file: /none/token\n";
    let shop = Shop::new(settings);
    let file = shop.path("tollgate.yaml");
    let places = [
        ":5:20: store.redis.password_file: /none/password does not exist (",
        ":7:16: store.redis.tls.ca_file: /none/ca.pem does not exist (",
        ":9:15: admin.token_file: /none/token does not exist (",
    ];
    let policies = shop.path("policies");
    let serve = shop.arguments();
    let mut serve: Vec<&str> = serve.iter().map(String::as_str).collect();
    serve.insert(0, "serve");
    for arguments in [
        vec!["check", "--config", text(&file), text(&policies)],
        serve,
    ] {
        let (code, out, err) = run(&arguments);
        assert_eq!(code, 1, "{arguments:?}: {out}{err}");
        for place in places {
            let expected = format!("{}{place}", text(&file));
            assert!(err.contains(&expected), "{arguments:?}: {err}");
        }
    }
    // A running one keeps what it has.
    std::fs::write(&file, "").unwrap();
    let (served, _) = shop.serve();
    std::fs::write(&file, settings).unwrap();
    served.signal("-HUP");
    served
        .logged("settings refused; keeping those in force")
        .await;
    is_answering(&served);
    assert!(Path::new(&file).exists());
}

fn is_answering(served: &Served) {
    assert_eq!(
        run(&["query", "--addr", &served.grpc, "shop", "user=x"]).0,
        0
    );
}
