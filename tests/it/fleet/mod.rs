//! What a fleet tells of itself: totals and alerts in Redis, limited keys, and `tollgate top`.

mod alerts;
mod bed;
mod top;
mod totals;
