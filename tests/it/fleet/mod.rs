//! What a fleet tells of itself: totals and alerts in Redis.

mod alerts;
mod bed;
mod totals;
