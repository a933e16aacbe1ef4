//! A primary, its replica, and three Sentinels that promote the replica when the primary is gone.

use super::server::{Recipe, Server};
use super::single::PASSWORD;
use super::wire::Login;
use super::{Flavour, Topology, on_port};
use crate::process::until_async;

/// Notices a dead primary after a second (less, and a busy machine looks dead); two of the three Sentinels must agree.
#[derive(Debug)]
pub(crate) struct Sentinel {
    /// The first was started as primary.
    data: [Server; 2],
    sentinels: [Server; 3],
    passwords: bool,
}

impl Sentinel {
    /// Starts all five, and waits until a failover would work.
    pub(crate) async fn start(flavour: Flavour) -> Self {
        Self::run(flavour, false).await
    }

    /// The same with [`PASSWORD`] on the servers and [`SENTINEL_PASSWORD`] on the Sentinels.
    pub(crate) async fn with_passwords(flavour: Flavour) -> Self {
        Self::run(flavour, true).await
    }

    async fn run(flavour: Flavour, passwords: bool) -> Self {
        let data = |mut lines: Vec<String>| {
            if passwords {
                lines.push(format!("requirepass {PASSWORD}"));
                lines.push(format!("masterauth {PASSWORD}"));
            }
            Server::start(Recipe {
                flavour,
                login: passwords.then_some(login(PASSWORD)),
                lines,
                ..Recipe::default()
            })
        };
        let primary = data(vec![]).await;
        let port = primary.addr().port();
        let replica = data(vec![format!("replicaof 127.0.0.1 {port}")]).await;
        // Sentinels ask a primary for its replicas when they meet it, and then only each 10 s.
        is_linked(&replica).await;
        let sentinel = || Server::start(watcher(flavour, passwords, port));
        let started = Self {
            sentinels: [sentinel().await, sentinel().await, sentinel().await],
            data: [primary, replica],
            passwords,
        };
        for sentinel in &started.sentinels {
            until_async("the Sentinels to know all", async || {
                knows_all(sentinel).await.then_some(())
            })
            .await;
        }
        started
    }

    /// Whom most Sentinels take for the primary, if it is one; none while they disagree.
    pub(crate) async fn primary(&self) -> Option<&Server> {
        let mut named = Vec::new();
        for sentinel in &self.sentinels {
            let line = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            if let Ok(reply) = sentinel.try_cli(&line).await {
                named.extend(reply.items().get(1).map(super::wire::Reply::text));
            }
        }
        let most = named
            .iter()
            .find(|port| named.iter().filter(|other| other == port).count() >= 2)?;
        let server = on_port(&self.data, most)?;
        let role = server.info(&["INFO", "replication"], "role").await;
        (role.as_deref() == Some("master")).then_some(server)
    }

    /// The server that is not the primary, and that a failover would go to.
    pub(crate) fn other(&self, primary: &Server) -> &Server {
        let others = self.data.iter();
        let mut others = others.filter(|server| server.addr() != primary.addr());
        others.next().expect("there are two")
    }

    pub(crate) fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }
}

impl Topology for Sentinel {
    fn url(&self) -> String {
        let [first, second, third] = [0, 1, 2].map(|i| self.sentinels[i].addr());
        let (login, more) = if self.passwords {
            (
                format!(":{PASSWORD}@"),
                format!("&sentinelPassword={SENTINEL_PASSWORD}"),
            )
        } else {
            Default::default()
        };
        format!(
            "redis-sentinel://{login}{first}/0?node={second}&node={third}\
             &sentinelServiceName={NAME}{more}"
        )
    }

    fn stores(&self) -> Vec<&Server> {
        self.data.iter().collect()
    }
}

fn watcher(flavour: Flavour, passwords: bool, port: u16) -> Recipe {
    let mut lines = vec![
        format!("sentinel monitor {NAME} 127.0.0.1 {port} 2"),
        format!("sentinel down-after-milliseconds {NAME} 1000"),
        format!("sentinel failover-timeout {NAME} 2000"),
    ];
    if passwords {
        lines.extend([
            format!("requirepass {SENTINEL_PASSWORD}"),
            format!("sentinel sentinel-pass {SENTINEL_PASSWORD}"),
            format!("sentinel auth-pass {NAME} {PASSWORD}"),
        ]);
    }
    Recipe {
        flavour,
        sentinel: true,
        login: passwords.then_some(login(SENTINEL_PASSWORD)),
        lines,
        ..Recipe::default()
    }
}

/// Waits until a replica follows its primary.
pub(super) async fn is_linked(replica: &Server) {
    until_async("a replica to follow its primary", async || {
        let link = replica.info(&["INFO", "replication"], "master_link_status");
        (link.await.as_deref() == Some("up")).then_some(())
    })
    .await;
}

/// Whether a Sentinel sees a healthy primary, a replica to promote, and two others to agree with.
async fn knows_all(sentinel: &Server) -> bool {
    let Ok(primary) = sentinel.try_cli(&["SENTINEL", "MASTER", NAME]).await else {
        return false;
    };
    let Ok(replicas) = sentinel.try_cli(&["SENTINEL", "REPLICAS", NAME]).await else {
        return false;
    };
    let is = |name: &str, value: &str| primary.after(name).as_deref() == Some(value);
    let mut replicas = replicas.items().iter();
    is("flags", "master")
        && is("num-slaves", "1")
        && is("num-other-sentinels", "2")
        && replicas.all(|replica| {
            replica.after("flags").as_deref() == Some("slave")
                && replica.after("master-link-status").as_deref() == Some("ok")
        })
}

fn login(password: &'static str) -> Login {
    Login {
        user: "default",
        password,
    }
}

pub(crate) const SENTINEL_PASSWORD: &str = "battery-staple";
const NAME: &str = "mymaster";
