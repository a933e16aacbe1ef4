//! The texts of the scripts; that which decides is put together from one file per algorithm and one
//! for the whole.

/// What `SCRIPT LOAD` is given. `src/store/redis/decide.lua` says what it takes and returns.
///
/// A server runs the whole text anew in each call, so each algorithm stands in a function that is
/// called only if a check needs it.
pub const DECIDE: &str = concat!(
    "local fixed_window = function()\n",
    include_str!("../../algorithm/fixed_window.lua"),
    "end\nlocal sliding_window = function()\n",
    include_str!("../../algorithm/sliding_window.lua"),
    "end\nlocal sliding_log = function(...)\n",
    include_str!("../../algorithm/sliding_log.lua"),
    "end\nlocal token_bucket = function()\n",
    include_str!("../../algorithm/token_bucket.lua"),
    "end\n",
    include_str!("decide.lua"),
);

/// What `SCRIPT LOAD` is given; see [`Heartbeat`](super::Heartbeat).
pub const HEARTBEAT: &str = include_str!("heartbeat.lua");

/// What `SCRIPT LOAD` is given; see [`FleetCall`](super::FleetCall).
pub const FLEET: &str = include_str!("fleet.lua");
