//! Metrics and spans pushed to a receiver that speaks the real OTLP, over gRPC and HTTP.

mod faults;
mod logs;
mod metrics;
mod receiver;
mod tls;
mod traces;

/// One limit that denies from the third hit, one that a store away makes an error of.
const POLICY: &str = "
domain: shop
descriptors:
  - key: user_id
    rate_limit: { requests_per_unit: 2, unit: day }
  - key: plan
    detailed_metric: true
    rate_limit: { requests_per_unit: 1000, unit: day }
  - key: strict
    rate_limit: { requests_per_unit: 1000, unit: day, on_store_failure: error }
";
