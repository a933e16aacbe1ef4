//! Where policies come from: files, read whole and watched.
//!
//! [`files`] reads a file or a folder into memory, all or nothing; [`watch`] says when it may be
//! worth reading again. Neither knows what is in the files (`config` compiles them) or what is
//! done with them (`app` swaps them in, or keeps the last good ones). All that takes long is done
//! by `in_background`, so that queries do not wait for it.

mod background;
pub mod files;
mod walk;
pub mod watch;

pub(crate) use background::in_background;
