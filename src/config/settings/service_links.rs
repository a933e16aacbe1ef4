//! Variables that Kubernetes sets in every pod because of a Service, not because of a setting.
//!
//! A Service called `tollgate` gives `TOLLGATE_SERVICE_HOST`, `TOLLGATE_SERVICE_PORT`,
//! `TOLLGATE_SERVICE_PORT_GRPC`, `TOLLGATE_PORT`, `TOLLGATE_PORT_8081_TCP_ADDR` and others; one
//! called `tollgate-admin` gives `TOLLGATE_ADMIN_SERVICE_HOST` and its like.

use std::collections::BTreeSet;

/// The Services that some variables tell of, by what the names of their variables begin with.
#[derive(Debug, Default)]
pub(super) struct ServiceLinks(BTreeSet<String>);

impl ServiceLinks {
    /// Those that have a `.._SERVICE_HOST` among `names`.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let services = names.filter_map(|name| name.strip_suffix("_SERVICE_HOST"));
        Self(services.map(str::to_owned).collect())
    }

    /// Whether Kubernetes has set this variable. A bare number as `TOLLGATE_PORT` is never its work:
    /// an operator wrote it, and means the port to listen on.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        let known = || self.0.iter().any(|service| is_link(name, service));
        let own = name != OWN_PORT || value.parse::<u16>().is_err();
        known() || (own && is_link(name, OWN))
    }
}

fn is_link(name: &str, service: &str) -> bool {
    let rest = name.strip_prefix(service);
    rest.is_some_and(|rest| {
        rest == "_PORT" || rest.starts_with("_PORT_") || rest.starts_with("_SERVICE_")
    })
}

/// Of a Service with this project's name, whose variables are known without its host.
const OWN: &str = "TOLLGATE";

const OWN_PORT: &str = "TOLLGATE_PORT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_sets_beside_a_service_is_known() {
        let none = ServiceLinks::default();
        for (name, value) in [
            ("TOLLGATE_PORT", "tcp://10.0.0.1:8081"),
            ("TOLLGATE_PORT_8081_TCP", "tcp://10.0.0.1:8081"),
            ("TOLLGATE_PORT_8081_TCP_ADDR", "10.0.0.1"),
            ("TOLLGATE_PORT_8081_TCP_PORT", "8081"),
            ("TOLLGATE_PORT_8081_TCP_PROTO", "tcp"),
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
            ("TOLLGATE_SERVICE_PORT", "8081"),
            ("TOLLGATE_SERVICE_PORT_GRPC", "8081"),
        ] {
            assert!(none.has(name, value), "{name}");
        }
        for (name, value) in [
            ("TOLLGATE_PORT", "8081"),
            ("TOLLGATE_PORTS", "1"),
            ("TOLLGATE_ADMIN_PORT", "tcp://10.0.0.1:6070"),
            ("TOLLGATE_ADMIN_SERVICE_PORT", "6070"),
            ("TOLLGATE_SERVICES", "x"),
        ] {
            assert!(!none.has(name, value), "{name}");
        }
        let admin = ServiceLinks::of(["PATH", "TOLLGATE_ADMIN_SERVICE_HOST"].into_iter());
        assert!(admin.has("TOLLGATE_ADMIN_PORT", "tcp://10.0.0.1:6070"));
        assert!(admin.has("TOLLGATE_ADMIN_SERVICE_PORT", "6070"));
        assert!(!admin.has("TOLLGATE_ADMIN__TOKEN_FILE", "/x"));
    }
}
