//! What operators write: policy files and the settings file.
//!
//! Text goes in, checked values come out, or a full report of what is wrong with the text. Nothing
//! here opens a file, reads the environment or keeps anything: `provider` and `cli` bring the bytes,
//! `app` puts the result to work.
//!
//! This is the only part of Tollgate that knows YAML.

pub mod policies;
mod report;
pub mod settings;
mod suggest;

pub use report::{Problem, Report, Severity};
