//! On which cores a real process serves its connections.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::envoy::bed::Tollgate;
use crate::harness::{Client, descriptor, request};

const POLICY: &str = "
domain: shop
descriptors:
  - { key: user, rate_limit: { requests_per_unit: 1000000, unit: second } }
";

#[tokio::test]
async fn new_connections_go_to_both_cores_whatever_was_open_before() {
    let tollgate = Tollgate::start("threads: 2\n", POLICY, None).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(tollgate.grpc).await.unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        idle.push(stream);
    }
    // By turns they would now all be on one core.
    let mut nth = 0;
    idle.retain(|_| {
        nth += 1;
        nth % 2 == 0
    });
    let before = tollgate.process.thread_ticks("grpc-");
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(Client::connect(&tollgate.grpc.to_string()).await);
    }
    let ticks = loop {
        let mut calls = JoinSet::new();
        for mut client in clients.clone() {
            calls.spawn(async move {
                for _ in 0..50 {
                    let user = descriptor(&[("user", "ann")]);
                    client.ask(request("shop", &[user])).await;
                }
            });
        }
        calls.join_all().await;
        let now = tollgate.process.thread_ticks("grpc-");
        let ticks: Vec<u64> = ["grpc-0", "grpc-1"]
            .map(|name| now[name] - before[name])
            .into();
        // Half a second of work in all, measured in hundredths.
        if ticks.iter().sum::<u64>() >= 50 {
            break ticks;
        }
    };
    assert!(ticks.iter().all(|ticks| *ticks >= 12), "{ticks:?}");
    drop(idle);
}
