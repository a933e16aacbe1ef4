//! Who the primary is, as sentinels say.

use std::fs;
use std::process::Command;

use tempfile::TempDir;
use tollgate::store::redis::{
    Access, FailureClass, Mode, Place, Role, Watched, connect, primary_by_sentinel,
};

use super::node::{Node, PATIENCE, access, free_port, on_each_flavour};
use crate::process::{Process, until_async};
use crate::topology::{Flavour, binary};

on_each_flavour! {
    sentinels_name_the_primary_and_each_other,
    sentinels_have_a_password_of_their_own,
}

async fn sentinels_name_the_primary_and_each_other(flavour: Flavour) {
    let primary = Node::start(flavour, &[]).await;
    let [one, two] = [
        Sentinel::start(flavour, &primary, "").await,
        Sentinel::start(flavour, &primary, "").await,
    ];
    let anybody = Access {
        // Of the servers; sentinels have none.
        database: 3,
        ..Access::default()
    };
    // One of those given is not there.
    let given = [Place::tcp("127.0.0.1", free_port()), one.place()];
    let (found, others) = until_async("the sentinels to find each other", async || {
        let answer = primary_by_sentinel(&given, "mymaster", &anybody, PATIENCE).await;
        let Watched {
            primary, others, ..
        } = answer.unwrap();
        (!others.is_empty()).then_some((primary, others))
    })
    .await;
    assert_eq!((found, others), (primary.place(), vec![two.place()]));
    let failure = primary_by_sentinel(&given, "other", &anybody, PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::MisConfigured, "{failure}");
    assert!(failure.detail.contains("\"other\""), "{failure}");
    assert!(failure.detail.contains("sentinelServiceName"), "{failure}");
    let (_, reached) = connect(&one.place(), &Access::default(), PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        (reached.mode, reached.role),
        (Mode::Sentinel, Role::Sentinel)
    );
    // A server that is none is told apart.
    let wrong = [primary.place()];
    let failure = primary_by_sentinel(&wrong, "mymaster", &anybody, PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::MisConfigured, "{failure}");
    assert!(failure.detail.contains("no sentinel"), "{failure}");
}

async fn sentinels_have_a_password_of_their_own(flavour: Flavour) {
    let primary = Node::start(flavour, &[]).await;
    let sentinel = Sentinel::start(flavour, &primary, "requirepass s3cret").await;
    let given = [sentinel.place()];
    let right = access(None, "s3cret");
    let found = primary_by_sentinel(&given, "mymaster", &right, PATIENCE)
        .await
        .unwrap();
    assert_eq!(found.primary, primary.place());
    let none = Access::default();
    let failure = primary_by_sentinel(&given, "mymaster", &none, PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::Auth, "{failure}");
}

#[tokio::test]
async fn without_sentinels_nobody_is_asked() {
    let answer = primary_by_sentinel(&[], "mymaster", &Access::default(), PATIENCE).await;
    assert_eq!(answer.unwrap_err().class, FailureClass::MisConfigured);
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Sentinel {
    async fn start(flavour: Flavour, primary: &Node, more: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("sentinel.conf");
        let monitored = primary.port();
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {monitored} 2\n{more}\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(binary(flavour));
        command
            .arg(&file)
            .arg("--sentinel")
            .current_dir(folder.path());
        let mut process = Process::spawn("redis-sentinel", &command);
        process
            .line("that it watches", |line| {
                line.contains("+monitor").then_some(())
            })
            .await;
        Self {
            port,
            _process: process,
            _folder: folder,
        }
    }

    fn place(&self) -> Place {
        Place::tcp("127.0.0.1", self.port)
    }
}
