//! Alerts: what was counted goes in, once a second, and out comes what has begun or ended.
//!
//! ```text
//!  Sample (counts so far, levels now) --> Window (the last minute) --> measure --> Latch --> Transition
//! ```
//!
//! A [`Watch`] is a state machine and nothing else: it reads no clock, no counter and no setting by
//! itself, and tells nobody. Whoever owns it asks once a second ([`Watch::step`]) and passes on
//! what it says.
//!
//! Promises
//! - An alert fires when its value has been above the threshold for as long as [`Config::hold`]
//!   says, and is resolved when it has been well below (a tenth) for [`Config::keep`]: a value
//!   that swings around the threshold fires once.
//! - Shares and percentiles of few calls are not judged ([`Config::min_calls`]).
//! - Memory is the same at any rate and for any window.
//!
//! It measures this process alone. What a fleet does together is Prometheus's to say.

mod counts;
mod history;
mod kind;
mod latch;
mod measure;
mod tail;
mod watch;
mod window;

#[cfg(test)]
mod tests;

pub use counts::{Counts, Levels, Sample};
pub use history::{History, Overview};
pub use kind::{Alert, Severity};
pub use tail::Tail;
pub use watch::{Config, Phase, Reading, State, Transition, Watch};
