//! Starts a server, and asks the script on it.

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, ServerConfig};
use fred::types::{ClusterHash, CustomCommand, FromValue, Value};
use tollgate::clock::Timestamp;
use tollgate::model::{Check, Decision};
use tollgate::store::redis::{Call, DECIDE, decode};

use crate::topology::{Flavour, Single, every_key_expires};

/// What a call asks, and of which checks.
#[derive(Clone, Debug)]
pub(super) enum Query {
    /// To be decided; enforced or not.
    Ask(Vec<Check>, bool),
    /// To be given back, as charged at this time.
    GiveBack(Vec<Check>, Timestamp),
    /// To land, as let pass at this time.
    Land(Vec<Check>, Timestamp),
}

impl Query {
    pub(super) fn checks(&self) -> &[Check] {
        match self {
            Self::Ask(checks, _) | Self::GiveBack(checks, _) | Self::Land(checks, _) => checks,
        }
    }

    fn add_to(&self, call: &mut Call) {
        match self {
            Self::Ask(checks, enforce) => call.push(checks, *enforce).unwrap(),
            Self::GiveBack(checks, at) => call.give_back(checks, *at).unwrap(),
            Self::Land(checks, at) => call.land(checks, *at).unwrap(),
        }
    }
}

/// A server with the script, and a client to it.
#[derive(Debug)]
pub(super) struct Redis {
    client: Client,
    script: String,
    single: Single,
}

impl Redis {
    pub(super) async fn start(flavour: Flavour) -> Self {
        let single = Single::start(flavour).await;
        let config = Config {
            server: ServerConfig::new_unix_socket(single.server.socket()),
            ..Config::default()
        };
        let client = Client::new(config, None, None, None);
        client.init().await.unwrap();
        let script = load(&client).await;
        Self {
            client,
            script,
            single,
        }
    }

    /// Any command.
    pub(super) async fn try_command<T: FromValue>(
        &self,
        name: &'static str,
        arguments: Vec<Value>,
    ) -> Result<T, Error> {
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        self.client.custom(command, arguments).await
    }

    /// A command that cannot fail.
    pub(super) async fn command<T: FromValue>(&self, line: &[&[u8]]) -> T {
        let (name, arguments) = line.split_first().unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        let command = CustomCommand::new(name, ClusterHash::FirstKey, false);
        let arguments: Vec<Value> = arguments.iter().map(|&text| bytes(text)).collect();
        self.client.custom(command, arguments).await.unwrap()
    }

    /// Runs a call, by the script's hash.
    pub(super) async fn call(&self, call: &Call) -> Result<Bytes, Error> {
        let keys = i64::try_from(call.keys().len()).unwrap();
        let mut arguments = vec![Value::from(self.script.as_str()), keys.into()];
        arguments.extend(call.keys().iter().map(|key| bytes(key)));
        arguments.push(bytes(call.argument()));
        self.try_command("EVALSHA", arguments).await
    }

    /// Decides queries in one call; each has its checks and whether they are enforced.
    pub(super) async fn decide(
        &self,
        queries: &[(Vec<Check>, bool)],
        now: Option<u64>,
        jitter: u32,
    ) -> Vec<Decision> {
        let queries: Vec<Query> = queries
            .iter()
            .map(|(checks, enforce)| Query::Ask(checks.clone(), *enforce))
            .collect();
        self.run(&queries, now, jitter).await
    }

    /// Runs queries of any kind in one call.
    pub(super) async fn run(
        &self,
        queries: &[Query],
        now: Option<u64>,
        jitter: u32,
    ) -> Vec<Decision> {
        let mut call = Call::new(PREFIX, now.map(Timestamp::from_millis), jitter);
        for query in queries {
            query.add_to(&mut call);
        }
        let reply = self.call(&call).await.unwrap();
        decode(&reply, queries.iter().map(Query::checks)).unwrap()
    }

    /// Decides one query.
    pub(super) async fn ask(&self, checks: &[Check], now: u64) -> Decision {
        let queries = [(checks.to_vec(), true)];
        let mut decisions = self.decide(&queries, Some(now), 0).await;
        decisions.pop().unwrap()
    }

    /// Loads the script again; its hash.
    pub(super) async fn load(&self) -> String {
        load(&self.client).await
    }

    /// All keys.
    pub(super) async fn keys(&self) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let mut cursor = String::from("0");
        loop {
            let line: [&[u8]; 4] = [b"SCAN", cursor.as_bytes(), b"COUNT", b"1000"];
            let (next, some): (String, Vec<Bytes>) = self.command(&line).await;
            keys.extend(some);
            if next == "0" {
                return keys;
            }
            cursor = next;
        }
    }

    /// Milliseconds that a key still lives; -1 for ever, -2 if there is none.
    pub(super) async fn ttl(&self, key: &[u8]) -> i64 {
        self.command(&[b"PTTL", key]).await
    }

    pub(super) async fn every_key_expires(&self) {
        every_key_expires(&self.single).await;
    }
}

/// A counter's name in Redis.
pub(super) fn name(check: &Check) -> Vec<u8> {
    format!("{PREFIX}:{}", check.key).into_bytes()
}

async fn load(client: &Client) -> String {
    let command = CustomCommand::new_static("SCRIPT", ClusterHash::FirstKey, false);
    client.custom(command, vec!["LOAD", DECIDE]).await.unwrap()
}

fn bytes(text: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(text))
}

const PREFIX: &str = "tollgate";
