//! A rate limit service that answers OK and does nothing, as tonic's own documentation would have it
//! written: what every other figure of `make bench` is a ratio to.
//!
//! `noop current|multi`: the kind of runtime. Prints where it listens, and runs until it is ended.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it did"
)]

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// As the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let kind = std::env::args().skip(1).find(|word| word != "--bench");
    let mut runtime = match kind.as_deref() {
        Some("current") => tokio::runtime::Builder::new_current_thread(),
        Some("multi") => tokio::runtime::Builder::new_multi_thread(),
        other => panic!("current or multi, not {other:?}"),
    };
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        Server::builder()
            .add_service(RateLimitServiceServer::new(Noop))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
            .expect("it serves");
    });
}

#[derive(Debug)]
struct Noop;

#[tonic::async_trait]
impl RateLimitService for Noop {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        // 1 is OK.
        let _unread = request.into_inner();
        Ok(Response::new(RateLimitResponse {
            overall_code: 1,
            ..RateLimitResponse::default()
        }))
    }
}
