//! What metrics show of the running parts.

use std::sync::Arc;

use super::configure;
use crate::admin::Status;
use crate::event::{BreakerState, StoreName};
use crate::model::{OnStoreFailure, Unit};
use crate::pipeline::Pipeline;
use crate::policy::{Domain, Limit, Rule};
use crate::store::Store;
use crate::telemetry::{Observed, Readings};
use crate::transport::Service;

/// The parts that metrics look at.
pub(super) struct Parts {
    pipeline: Arc<Pipeline>,
    service: Arc<Service>,
    status: Arc<Status>,
}

impl Parts {
    pub(super) fn new(
        pipeline: &Arc<Pipeline>,
        service: &Arc<Service>,
        status: &Arc<Status>,
    ) -> Self {
        Self {
            pipeline: Arc::clone(pipeline),
            service: Arc::clone(service),
            status: Arc::clone(status),
        }
    }
}

impl Observed for Parts {
    fn readings(&self) -> Readings {
        configure::readings(&self.pipeline, &self.service, &self.status)
    }

    fn policy_hash(&self) -> String {
        self.status.policies().hash
    }

    fn enforcement(&self, each: &mut dyn FnMut(&str, &str, f64)) {
        let stores = Stores::of(self.pipeline.store());
        let snapshot = self.pipeline.snapshot();
        snapshot.policies().for_each_rule(|domain, rule| {
            if let Some(enforced) = enforced(domain, rule, &stores) {
                each(domain.name(), &rule.path, enforced);
            }
        });
    }
}

/// Which of the shared stores cannot be asked now.
#[derive(Clone, Copy, Debug, Default)]
struct Stores {
    main_away: bool,
    /// Whether that of limits per second is away, if there is one.
    per_second_away: Option<bool>,
}

impl Stores {
    fn of(store: &Store) -> Self {
        let Store::Shared(shared) = store else {
            return Self::default();
        };
        let mut stores = Self::default();
        for status in shared.status() {
            let away = status.state != BreakerState::Closed;
            match status.name {
                StoreName::Main => stores.main_away = away,
                StoreName::PerSecond => stores.per_second_away = Some(away),
            }
        }
        stores
    }
}

/// How far a rule is enforced now; none if it has nothing to enforce.
fn enforced(domain: &Domain, rule: &Rule, stores: &Stores) -> Option<f64> {
    let Limit::Quota(quota) = rule.limit else {
        return None;
    };
    if domain.shadow_mode() || rule.shadow_mode || rule.enforce_percent == 0 {
        return Some(0.0);
    }
    let is_away = match stores.per_second_away {
        Some(away) if quota.window().unit() == Unit::Second => away,
        Some(_) | None => stores.main_away,
    };
    Some(match (is_away, rule.on_store_failure) {
        (false, _) => 1.0,
        (true, OnStoreFailure::Local | OnStoreFailure::Deny) => 0.5,
        // Envoy lets a request pass that is answered with an error, unless told otherwise.
        (true, OnStoreFailure::Allow | OnStoreFailure::Error) => 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policies::{PolicyDefaults, Source, load};
    use crate::event::Silence;
    use crate::policy::Policies;

    const SHOP: &str = "
domain: shop
descriptors:
  - {key: local, rate_limit: {requests_per_unit: 1, unit: minute}}
  - {key: second, rate_limit: {requests_per_unit: 1, unit: second}}
  - {key: allow, rate_limit: {requests_per_unit: 1, unit: minute, on_store_failure: allow}}
  - {key: deny, rate_limit: {requests_per_unit: 1, unit: minute, on_store_failure: deny}}
  - {key: error, rate_limit: {requests_per_unit: 1, unit: minute, on_store_failure: error}}
  - {key: shadow, shadow_mode: true, rate_limit: {requests_per_unit: 1, unit: minute}}
  - {key: spared, rate_limit: {requests_per_unit: 1, unit: minute, enforce_percent: 0}}
  - {key: unlimited, rate_limit: {unlimited: true}}
";

    fn told(stores: Stores) -> Vec<(String, f64)> {
        let source = Source {
            name: "shop.yaml",
            text: SHOP.as_bytes(),
        };
        let compiled = load(&[source], &PolicyDefaults::default()).unwrap();
        let policies = Policies::new(compiled.domains, &Silence);
        let mut told = Vec::new();
        policies.for_each_rule(|domain, rule| {
            if let Some(enforced) = enforced(domain, rule, &stores) {
                told.push((rule.path.clone(), enforced));
            }
        });
        told
    }

    #[test]
    fn a_rule_is_enforced_as_it_says_and_as_its_store_can() {
        let of = |values: [f64; 7]| {
            let names = [
                "local", "second", "allow", "deny", "error", "shadow", "spared",
            ];
            names
                .map(str::to_owned)
                .into_iter()
                .zip(values)
                .collect::<Vec<_>>()
        };
        let near = Stores::default();
        assert_eq!(told(near), of([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
        let main_away = Stores {
            main_away: true,
            per_second_away: None,
        };
        assert_eq!(told(main_away), of([0.5, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0]));
        let one_of_two = Stores {
            main_away: true,
            per_second_away: Some(false),
        };
        assert_eq!(told(one_of_two), of([0.5, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0]));
    }
}
