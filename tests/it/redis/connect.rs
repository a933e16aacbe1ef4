//! Getting in: who is reached, as whom, and what is said where that fails.

use std::fs;
use std::time::Duration;

use tollgate::store::redis::{
    Access, DECIDE, FailureClass, Mode, Place, Reached, Reply, Role, connect,
};

use super::node::{Node, PATIENCE, access, charge, free_port, is_open, on_each_flavour, run};
use crate::topology::Flavour;

on_each_flavour! {
    a_password_lets_in_and_a_wrong_one_does_not,
    a_server_says_who_it_is,
    a_unix_socket_reaches_the_database_asked_for,
    a_user_with_the_rights_that_are_documented_can_decide,
    a_user_without_a_right_is_told_which,
    eviction_is_warned_of,
}

async fn a_server_says_who_it_is(flavour: Flavour) {
    let node = Node::start(flavour, &[]).await;
    let (connection, reached) = node.reach().await;
    let Reached {
        server,
        version,
        mode,
        role,
        loading,
        warnings,
    } = &reached;
    let (name, least) = match flavour {
        Flavour::Redis7 => ("Redis 7.", (7, 0, 0)),
        Flavour::Redis62 => ("Redis 6.2.", (6, 2, 0)),
        Flavour::Valkey => ("Valkey 9.", (7, 2, 0)),
    };
    assert!(server.starts_with(name), "{server}");
    assert!(*version >= least, "{version:?}");
    assert_eq!(
        (*mode, role, *loading),
        (Mode::Standalone, &Role::Primary, false)
    );
    assert_eq!(warnings, &Vec::<String>::new());
    assert_eq!(
        reached.to_string(),
        format!("{server}, standalone, primary")
    );
    assert_eq!(connection.place(), &node.place());
    assert!(is_open(&connection));
}

async fn a_unix_socket_reaches_the_database_asked_for(flavour: Flavour) {
    let node = Node::start(flavour, &[]).await;
    let place = Place::Unix(node.socket());
    let third = Access {
        database: 3,
        ..Access::default()
    };
    let (connection, _) = connect(&place, &third, PATIENCE).await.unwrap();
    run(&connection, &["SET", "here", "1"]).await.unwrap();
    assert_eq!(run(&connection, &["DBSIZE"]).await, Ok(Reply::Number(1)));
    assert_eq!(node.command(&["DBSIZE"]).await, Reply::Number(0));
    let beyond = Access {
        database: 60_000,
        ..Access::default()
    };
    let failure = connect(&place, &beyond, PATIENCE).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::MisConfigured);
    assert!(failure.detail.contains("fewer databases"), "{failure}");
}

async fn a_password_lets_in_and_a_wrong_one_does_not(flavour: Flavour) {
    let node = Node::start(flavour, &["--requirepass", "s3cret-1"]).await;
    for right in [
        access(None, "s3cret-1"),
        access(Some("default"), "s3cret-1"),
    ] {
        let (connection, _) = node.enter(&right).await.unwrap();
        connection.load(DECIDE).await.unwrap();
    }
    for wrong in [
        Access::default(),
        access(None, "s3cret-2"),
        access(Some("nobody"), "s3cret-1"),
        Access {
            username: Some("default".to_owned()),
            ..Access::default()
        },
    ] {
        let failure = node.enter(&wrong).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Auth, "{failure}");
        assert!(failure.detail.contains("password"), "{failure}");
        assert!(
            !format!("{failure:?} {wrong:?}").contains("s3cret"),
            "{failure:?}"
        );
    }
}

async fn a_user_with_the_rights_that_are_documented_can_decide(flavour: Flavour) {
    let mut settings = vec!["--user", "ann", "on", ">s3cret", "~tollgate:*"];
    settings.extend(RIGHTS);
    let node = Node::start(flavour, &settings).await;
    let (connection, _) = node.enter(&access(Some("ann"), "s3cret")).await.unwrap();
    let sha = connection.load(DECIDE).await.unwrap();
    // Charged until it is full, so that all commands of the script are run.
    for _ in 0..7 {
        connection
            .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
            .await
            .unwrap();
    }
}

async fn a_user_without_a_right_is_told_which(flavour: Flavour) {
    let user = [
        "--user", "ann", "on", ">s3cret", "~other:*", "+evalsha", "+script",
    ];
    for (rights, missing) in [
        (&[][..], "info"),
        (&["+info", "-script"], "script"),
        (&["+info", "-evalsha"], "evalsha"),
        (&["+info", "+@all"], "key"),
    ] {
        let node = Node::start(flavour, &[&user[..], rights].concat()).await;
        let tried = async {
            let (connection, _) = node.enter(&access(Some("ann"), "s3cret")).await?;
            let sha = connection.load(DECIDE).await?;
            connection
                .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
                .await
        };
        let failure = tried.await.unwrap_err();
        assert_eq!(failure.class, FailureClass::NoPermission, "{failure}");
        assert!(failure.detail.contains(missing), "{missing}: {failure}");
        assert!(failure.detail.contains("ACL SETUSER"), "{failure}");
    }
    // Only the script lacks one.
    let inside = ["--user", "ann", "on", ">s3cret", "~*", "+@all", "-set"];
    let node = Node::start(flavour, &inside).await;
    let (connection, _) = node.enter(&access(Some("ann"), "s3cret")).await.unwrap();
    let sha = connection.load(DECIDE).await.unwrap();
    let failed = connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await;
    let failure = failed.unwrap_err();
    assert_eq!(failure.class, FailureClass::NoPermission, "{failure}");
    assert!(!failure.class.unexecuted(), "a part may have been");
}

async fn eviction_is_warned_of(flavour: Flavour) {
    let limited = ["--maxmemory", "1gb", "--maxmemory-policy"];
    for (settings, warned) in [
        (&["noeviction"][..], false),
        (&["volatile-ttl"], true),
        (&["allkeys-lru"], true),
        (&["allkeys-lru", "--maxmemory", "0"], false),
    ] {
        let node = Node::start(flavour, &[&limited[..], settings].concat()).await;
        let (_, reached) = node.reach().await;
        let advised = |text: &String| text.contains("set maxmemory-policy noeviction");
        assert_eq!(reached.warnings.iter().any(advised), warned, "{settings:?}");
        assert_eq!(reached.warnings.len(), usize::from(warned));
    }
}

#[tokio::test]
async fn a_password_file_is_read_anew_each_time() {
    let node = Node::start(Flavour::Redis7, &["--requirepass", "first-s3cret"]).await;
    let file = node.folder().join("password");
    let access = Access {
        password_file: Some(file.clone()),
        ..Access::default()
    };
    let failure = node.enter(&access).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Auth);
    assert!(failure.detail.contains(file.to_str().unwrap()), "{failure}");
    for text in ["first-s3cret\n", "first-s3cret\r\n", "first-s3cret"] {
        fs::write(&file, text).unwrap();
        node.enter(&access).await.unwrap();
    }
    let (old, _) = node.enter(&access).await.unwrap();
    run(&old, &["CONFIG", "SET", "requirepass", "second-s3cret"])
        .await
        .unwrap();
    let failure = node.enter(&access).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Auth);
    assert!(!failure.detail.contains("s3cret"), "{failure}");
    fs::write(&file, "second-s3cret\n").unwrap();
    node.enter(&access).await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_password_takes_any() {
    let node = Node::start(Flavour::Redis7, &[]).await;
    node.enter(&access(None, "whatever")).await.unwrap();
}

#[tokio::test]
async fn an_address_of_ipv6_is_reached() {
    let node = Node::start(Flavour::Redis7, &["--bind", "::1"]).await;
    let place = Place::tcp("::1", node.port());
    let (connection, _) = connect(&place, &Access::default(), PATIENCE).await.unwrap();
    assert_eq!(
        connection.place().to_string(),
        format!("[::1]:{}", node.port())
    );
}

#[tokio::test]
async fn where_nobody_listens_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for place in [
        Place::tcp("127.0.0.1", free_port()),
        Place::Unix(folder.path().join("none.sock")),
    ] {
        let failure = connect(&place, &Access::default(), PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(failure.class, FailureClass::Refused, "{failure}");
        assert!(failure.detail.contains(&place.to_string()), "{failure}");
        assert!(failure.detail.contains("check"), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_is_full_of_clients_is_recognized() {
    let node = Node::start(Flavour::Redis7, &["--maxclients", "1"]).await;
    let _first = node.reach().await;
    let failure = node.enter(&Access::default()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");
    assert!(failure.detail.contains("maxclients"), "{failure}");
}

#[tokio::test]
async fn a_frozen_server_is_given_up_in_time() {
    let node = Node::start(Flavour::Redis7, &[]).await;
    node.process.signal("STOP");
    let within = Duration::from_millis(200);
    let start = tokio::time::Instant::now();
    let tried = connect(&node.place(), &Access::default(), within).await;
    assert_eq!(tried.unwrap_err().class, FailureClass::Timeout);
    let took = start.elapsed();
    assert!(within <= took && took < PATIENCE / 2, "{took:?}");
}

/// What Tollgate needs, as the failure of who lacks it says.
const RIGHTS: [&str; 6] = [
    "+info",
    "+script|load",
    "+evalsha",
    "+@read",
    "+@write",
    "+time",
];
