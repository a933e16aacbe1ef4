//! Counts in Redis, shared by all replicas: what to say, whom to say it to, and what may go wrong.
//!
//! One call of [`DECIDE`] takes many queries ([`Call`]) and decides them in order, each all or
//! nothing, just as [`MemoryStore`](super::MemoryStore) does; a property test holds the two
//! together. What depends on a check alone (up to which count it passes, when it is charged) is
//! worked out here; what depends on a counter's state is worked out there, by the Lua sibling of
//! each algorithm (`src/algorithm/*.lua`).
//!
//! What another store's part of a query decided afterwards, or this one missed while it was away,
//! goes in calls of the same script: [`Call::give_back`], [`Call::land`]. [`HEARTBEAT`] lets
//! replicas know of each other, and [`FLEET`] adds up what they count.
//!
//! An [`Address`] is what the operator writes. [`connect()`] reaches one server and says who it is;
//! [`primary_by_sentinel`] and [`slots()`] find the servers that an address stands for. A
//! [`Connection`] is to one server, is never made again by itself, and never sends a call twice. Each
//! [`Failure`] has a [class](FailureClass), and each class a [`Reaction`].
//!
//! A [`RedisStore`] is where keys are: one server, or several that a resolver (`resolve`) finds and
//! finds again; of several that know nothing of each other the replicas agree on one (`failover`, `leases`). Each core has its own [`Links`] there, a `link` to each server, with a `queue` in
//! front of it that makes one call of what waits, and a breaker. A link supervises one connection
//! at a time (`line`); how long each call took is told when it is over, waited for or not
//! (`pending`); answers after the deadline are heard where they matter (`late`). How long a query waits is up to a `timer` that all of a core share. How they all fare is in `health`, how full their queues are in `gauge`.

mod address;
mod connect;
mod connection;
mod diagnosis;
mod election;
mod failover;
mod failure;
mod fleet;
mod gauge;
mod greeting;
mod health;
mod heartbeat;
mod late;
mod leases;
mod line;
mod link;
mod links;
mod pending;
mod place;
mod probes;
mod queue;
mod reply;
mod resolve;
mod route;
mod scouts;
mod scripts;
mod secret;
mod sentinel;
mod slot;
mod slots;
mod store;
#[cfg(test)]
mod tests;
mod timer;
mod tls;
mod wire;

pub use address::{Address, AddressError, Topology};
pub use connect::{Access, TlsFiles, connect};
pub use connection::Connection;
pub use failure::{Failure, FailureClass, Reaction, Redirect};
pub use fleet::{FleetCall, alerts_key, domains_key, metrics_key};
pub use gauge::QueueReading;
pub use greeting::{Mode, Reached, Role};
pub use health::LinkStatus;
pub use heartbeat::Heartbeat;
pub(crate) use late::LateReply;
pub(crate) use links::Links;
pub use place::Place;
use place::bracketed;
pub(crate) use queue::{Task, Work};
pub use reply::Reply;
pub use scripts::{DECIDE, FLEET, HEARTBEAT};
pub use secret::Secret;
pub use sentinel::{Watched, primary_by_sentinel};
pub use slot::slot_of;
pub use slots::{SlotMap, slots};
pub use store::{RedisConfig, RedisSample, RedisStatus, RedisStore, Site};
pub use tls::check_tls_files;
pub use wire::{Call, Full, ReplyError, decode};

/// The monotonic clock, which tests may stop.
pub(crate) fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
