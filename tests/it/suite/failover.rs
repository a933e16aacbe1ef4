//! Which server is asked: the first of a list that can be, and whoever a name stands for.

use std::net::{TcpListener, ToSocketAddrs};
use std::time::Duration;

use tollgate::model::{Algorithm, Check, Source, Unit};

use super::bed::{Bed, Kind, script_calls};
use super::checks::{charge, long};
use super::client::Client;
use super::runtime;
use crate::process::until_async;
use crate::topology::{Flavour, Pair, Server, Single};

#[test]
fn the_first_of_a_list_that_can_be_asked_is() {
    runtime().block_on(async {
        let pair = Pair::start(Flavour::Redis7).await;
        pair.first.server.kill();
        let bed = Bed::failover_list(pair);
        let [first, second] = [0, 1].map(|server| bed.topology().stores()[server]);
        let client = bed.client("list", 2).await;
        let ask = Asker::new(&client);

        // Down when we start.
        ask.is_decided_by_store().await;
        assert_eq!(keys(second).await, 1);

        // Back: used again, but not at once, for each switch may cost a limit.
        first.restart().await;
        let back = tokio::time::Instant::now();
        until_async("the first to be used again", async || {
            ask.once().await;
            (keys(first).await == 1).then_some(())
        })
        .await;
        // Three looks, the nearest of which are this far apart.
        let looks = 2 * Duration::from_millis(100);
        assert!(back.elapsed() >= looks, "{:?}", back.elapsed());
        ask.is_decided_by_store().await;

        // None: each replica does by itself what it can.
        second.kill();
        first.kill();
        until_async("it to be decided here", async || {
            (ask.once().await == Source::Local).then_some(())
        })
        .await;
        assert!(!client.is_up());

        // Any is better than none.
        second.restart().await;
        until_async("the second to be used", async || {
            (ask.once().await == Source::Store).then_some(())
        })
        .await;
        assert_eq!(keys(second).await, 1);
        bed.is_left_clean().await;
    });
}

#[test]
fn the_first_of_a_list_is_left_when_it_is_frozen() {
    runtime().block_on(async {
        let pair = Pair::start(Flavour::Redis7).await;
        let bed = Bed::failover_list(pair);
        let [first, second] = [0, 1].map(|server| bed.topology().stores()[server]);
        let client = bed.client("frozen", 1).await;
        let ask = Asker::new(&client);
        ask.is_decided_by_store().await;
        assert_eq!((keys(first).await, keys(second).await), (1, 0));
        first.freeze();
        until_async("the second to be used", async || {
            ask.once().await;
            (keys(second).await == 1).then_some(())
        })
        .await;
        first.thaw();
        until_async("the first to answer", async || {
            first.answers().await.then_some(())
        })
        .await;
        until_async("the first to be used again", async || {
            let before = script_calls(first).await;
            ask.once().await;
            (script_calls(first).await > before).then_some(())
        })
        .await;
        ask.is_decided_by_store().await;
    });
}

#[test]
fn a_name_leads_to_whatever_address_listens() {
    runtime().block_on(async {
        let single = Single::start(Flavour::Redis7).await;
        let port = single.server.addr().port();
        let mut rounds = vec![("localhost", "127.0.0.1")];
        if TcpListener::bind("[::1]:0").is_ok() {
            rounds.push(("[::1]", "127.0.0.1 ::1"));
            let mut addresses = ("localhost", port).to_socket_addrs().unwrap();
            if addresses.any(|address| address.is_ipv6()) {
                // One address of two, whichever comes first.
                rounds.push(("localhost", "::1"));
            }
        }
        let urls = rounds
            .iter()
            .map(|(host, _)| format!("redis://{host}:{port}"));
        let urls: Vec<String> = urls.collect();
        let mut bed = Bed::new(Kind::Redis7, single);
        for ((_, bind), url) in rounds.into_iter().zip(urls) {
            let server = bed.topology().stores()[0];
            server.cli(&["CONFIG", "SET", "bind", bind]).await;
            bed.is_at(&url);
            let client = bed.client("name", 1).await;
            Asker::new(&client).is_decided_by_store().await;
        }
    });
}

/// Asks one check again and again.
struct Asker<'a> {
    client: &'a Client,
    check: Check,
}

impl<'a> Asker<'a> {
    fn new(client: &'a Client) -> Self {
        let check = charge("ann", long(Algorithm::FixedWindow, 1_000_000, Unit::Day));
        Self { client, check }
    }

    async fn once(&self) -> Source {
        let query = std::slice::from_ref(&self.check);
        let decision = self.client.decide_anyhow(0, query, true).await;
        decision.verdicts[0].source
    }

    async fn is_decided_by_store(&self) {
        assert_eq!(self.once().await, Source::Store);
    }
}

/// How many counters a server has.
async fn keys(server: &Server) -> usize {
    server.cli(&["KEYS", "*ann*"]).await.items().len()
}
