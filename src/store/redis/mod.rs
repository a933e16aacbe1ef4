//! Counts in Redis, shared by all replicas: the script that decides there, and its wire format.
//!
//! One call of [`DECIDE`] takes many queries ([`Call`]) and decides them in order, each all or
//! nothing, just as [`MemoryStore`](super::MemoryStore) does; a property test holds the two
//! together. What depends on a check alone (up to which count it passes, when it is charged) is
//! worked out here; what depends on a counter's state is worked out there, by the Lua sibling of
//! each algorithm (`src/algorithm/*.lua`).
//!
//! It does not talk to a server; it only knows what to say.

mod scripts;
mod wire;

pub use scripts::DECIDE;
pub use wire::{Call, Full, ReplyError, decode};
