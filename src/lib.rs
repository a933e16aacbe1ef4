//! # Tollgate: a rate limit service for Envoy
//!
//! Envoy asks, once per request, whether to let the request through
//! (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`). Tollgate matches the request's
//! descriptors against policies that operators write in YAML, counts, and answers. This page is the
//! map; [`pipeline`] is the file to read next.
//!
//! # One request, walked through
//!
//! ```text
//!  Envoy --gRPC--> transport --> policy (match) --> limiter (plan) --> store (decide, all or nothing)
//!                     ^                                                          |
//!                     +------------- answer <-- limiter (fold) <--- verdicts <---+
//!                                      |
//!                                      +--> event --> telemetry   (told, never asked)
//! ```
//!
//! 1. [`transport`] reads the call and turns it into a [`model::Query`]: a domain, descriptors, hits.
//! 2. [`pipeline`] takes the [`policy::Policies`] in force and has [`limiter::Plan`] match each
//!    descriptor: a rule with a limit makes a [`model::Check`], which is a counter's key, the numbers
//!    and the hits.
//! 3. [`store`] decides all checks in one step. It runs the rule's [`algorithm`] on each counter and
//!    charges either all of them or, when the request is denied, none. In memory that is done where
//!    the request is. In Redis the algorithm's Lua sibling runs; the request then waits, with others,
//!    for one call, no longer than it may, and is decided here, by this replica's share of the
//!    limit, if no answer comes in time.
//! 4. [`limiter`] folds the [`model::Verdict`]s into a [`limiter::Answer`]; [`transport`] writes it.
//! 5. Whoever listens to [`event`]s counts; [`telemetry`] does.
//!
//! # Where things are
//!
//! | module | what it is for | knows alone |
//! |---|---|---|
//! | [`cli`] | the command line: serve, check, explain, query, load, reset, schema, top, healthcheck, completions | clap, the environment |
//! | [`app`] | the composition root: settings in, a running Tollgate out; reload; drain | who is connected to whom |
//! | [`config`] | text to checked rules and settings, or a full report of problems | YAML |
//! | [`provider`] | where policies come from: files, watched | the file system |
//! | [`transport`] | gRPC, `/json`, health, reflection; sockets and connections | protobuf, HTTP/2 |
//! | [`admin`] | what operators ask: readiness, metrics, the configuration in force, why, counters, alerts, limited keys | |
//! | [`telemetry`] | metrics, traces and logs: scraped, pushed, written | OpenTelemetry, Prometheus |
//! | [`pipeline`] | match, decide, fold, tell, on one page | |
//! | [`limiter`] | from a query to checks, from verdicts to an answer | |
//! | [`store`] | counters: `memory`, sharded, bounded; `redis`, which all replicas share; `local`, a replica's share while Redis is away; `shared`, which of these two decides, and by when | fred, in `store::redis` alone |
//! | [`alert`] | what is worth an alarm: counts in, once a second, and out comes what fires and what has ended | |
//! | [`policy`] | rules, indexed: which one applies | |
//! | [`algorithm`] | fixed window, sliding window, sliding log, token bucket: pure functions | |
//! | [`model`], [`event`], [`clock`] | the words that everything shares | |
//! | [`pace`] | long background work in short slices, so that queries do not wait for it | |
//!
//! # Rules of the house
//!
//! Imports go down, never up or sideways: `cli` > `app` > `config`, `provider` > `transport`,
//! `admin`, `telemetry` > `pipeline`, `limiter` > `store`, `alert` > `policy`, `algorithm` > `model`,
//! `event`, `clock`, `pace`. `tests/architecture.rs` reads the source and fails on a violation. From `pipeline` down
//! there is no protobuf and no YAML, and time is an argument. Only `store` has async code, where
//! a request may wait for Redis (`store::shared`, `store::redis`); what matches, decides, folds,
//! queues, breaks the circuit and divides a limit is plain Rust.

pub mod admin;
pub mod alert;
pub mod algorithm;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod event;
pub mod limiter;
pub mod model;
pub mod pace;
pub mod pipeline;
pub mod policy;
pub mod provider;
pub mod store;
pub mod telemetry;
pub mod transport;
