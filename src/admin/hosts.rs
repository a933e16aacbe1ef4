//! Checks the `Host` of requests to the admin listener.
//!
//! A web page can have its own name resolve to the address of this listener (DNS rebinding); to the
//! browser what it then reads is of the page's own site. Its requests carry that name as `Host`. An
//! address or `localhost` cannot be such a name, so that these are served, and no other names but
//! those of the setting `admin.allowed_hosts`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AdminState;
use super::permit::Denial;
use crate::event::AdminRefusal;
use crate::model::Peer;

/// The names that the admin listener is served under, besides addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    /// Allows these names; one that starts with a dot, the names below it and itself; `*`, all.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        // A dot at the end only says that the name is complete.
        let plain = |name: String| name.trim_end_matches('.').to_ascii_lowercase();
        Self(names.into_iter().map(plain).collect())
    }

    /// Whether a `Host` is served: a name or address, with or without a port.
    fn allows(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.');
        let address = name.trim_start_matches('[').trim_end_matches(']');
        if address.parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = name.to_ascii_lowercase();
        name == LOCALHOST
            || is_below(&name, LOCALHOST)
            || self
                .0
                .iter()
                .any(|allowed| match allowed.strip_prefix('.') {
                    Some(domain) => name == domain || is_below(&name, domain),
                    None => allowed == "*" || *allowed == name,
                })
    }
}

/// Whether `name` ends in a dot and `domain`.
fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.ends_with('.'))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Refuses requests whose `Host` is not served. Over a unix socket no web page can come.
pub(super) async fn check(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let is_unix = peer.is_some_and(|peer| peer.0 == Peer::Unix);
    let hosts = request.headers().get_all(HOST).into_iter();
    let named = hosts.map(|host| host.to_str().unwrap_or_default());
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let mut all = named.chain(authority);
    if !is_unix && !all.all(|host| state.allowed_hosts.allows(host)) {
        let peer = peer.map(|peer| peer.0);
        state.refuse(AdminRefusal::Host, peer);
        return Denial(AdminRefusal::Host).into_response();
    }
    next.run(request).await
}

const LOCALHOST: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_configured_names_are_served() {
        let hosts = AllowedHosts::new(["Tollgate-Admin".into(), ".svc.cluster.local.".into()]);
        for served in [
            "127.0.0.1:6070",
            "10.1.2.3",
            "[::1]:6070",
            "[fd00::1]",
            "localhost",
            "LOCALHOST:6070",
            "x.localhost:1",
            "localhost.",
            "tollgate-admin:6070",
            "svc.cluster.local",
            "tollgate.ns.svc.cluster.local:6070",
        ] {
            assert!(hosts.allows(served), "{served}");
        }
        for refused in [
            "evil.example",
            "evil.example:6070",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "xsvc.cluster.local",
            "tollgate-admin.evil.example",
            "",
            "a:b",
        ] {
            assert!(!hosts.allows(refused), "{refused}");
        }
        assert!(AllowedHosts::new(["*".into()]).allows("evil.example"));
    }
}
