//! Real Redis servers in every arrangement that Tollgate can be pointed at.
//!
//! [`Single`], [`Pair`] (two that know nothing of each other), [`Sentinel`] and [`Cluster`] start
//! processes on ports and in folders of their own and are ready when they are returned: replicas
//! have caught up, Sentinels know each other, slots are covered. Each server can be killed, frozen,
//! thawed and restarted. All are gone when the arrangement is dropped, and also when the tests are
//! killed.
//!
//! What a server does is asked over its unix socket, without the client library under test.

mod behaviour;
mod binary;
mod cluster;
mod pair;
mod ports;
pub(crate) mod relay;
mod sentinel;
mod server;
mod single;
pub(crate) mod standin;
mod tls;
mod wire;

pub(crate) use self::binary::{Flavour, binary};
pub(crate) use self::cluster::Cluster;
pub(crate) use self::pair::Pair;
pub(crate) use self::ports::free as free_port;
pub(crate) use self::sentinel::Sentinel;
pub(crate) use self::server::Server;
pub(crate) use self::single::{Access, COMMANDS, Options, Single};
pub(crate) use self::tls::Certificates;
pub(crate) use self::wire::Reply;

/// What all arrangements have.
pub(crate) trait Topology: Send + Sync {
    /// What `tollgate serve --redis` is given.
    fn url(&self) -> String;

    /// The servers that hold data.
    fn stores(&self) -> Vec<&Server>;
}

/// Fails with the first key on a running server that would live for ever.
pub(crate) async fn every_key_expires(topology: &dyn Topology) {
    for server in topology.stores().into_iter().filter(|server| server.runs()) {
        if let Some(key) = key_without_expiry(server)
            .await
            .expect("a server that answers")
        {
            panic!("{} on {} never expires", key.escape_ascii(), server.addr());
        }
    }
}

async fn key_without_expiry(server: &Server) -> std::io::Result<Option<Vec<u8>>> {
    let mut connection = server.connect().await?;
    if server
        .info(&["INFO", "cluster"], "cluster_enabled")
        .await
        .as_deref()
        == Some("1")
    {
        // A replica answers for its keys only then.
        connection.call(&["READONLY"]).await?;
    }
    let keyspace = connection.call(&["INFO", "keyspace"]).await?.text();
    let databases = keyspace.lines().filter_map(|line| {
        let (number, _) = line.strip_prefix("db")?.split_once(':')?;
        Some(number)
    });
    for database in databases {
        if database != "0" {
            connection.call(&["SELECT", database]).await?;
        }
        if let Some(key) = key_without_expiry_here(&mut connection).await? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

async fn key_without_expiry_here(
    connection: &mut wire::Connection,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut cursor = String::from("0");
    loop {
        let page = connection.call(&["SCAN", &cursor, "COUNT", "1000"]).await?;
        let [next, keys] = page.items() else {
            return Err(std::io::Error::other("SCAN answers a cursor and keys"));
        };
        for key in keys.items() {
            let Reply::Text(key) = key else {
                continue;
            };
            if connection.call(&[b"TTL", &key[..]]).await? == Reply::Number(-1) {
                return Ok(Some(key.clone()));
            }
        }
        cursor = next.text();
        if cursor == "0" {
            return Ok(None);
        }
    }
}

/// The server that listens on a port.
fn on_port<'a>(servers: impl IntoIterator<Item = &'a Server>, port: &str) -> Option<&'a Server> {
    let mut servers = servers.into_iter();
    servers.find(|server| server.addr().port().to_string() == port)
}
