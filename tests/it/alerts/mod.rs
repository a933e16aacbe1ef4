//! Alerts of a whole Tollgate: the real cause of each, seen to fire and to end; and who is told.
//!
//! - `causes`: a Redis that is gone, slow, full or comes and goes, and callers who are refused, as
//!   `/alerts` and the metrics tell of them.
//! - `alertmanager`: a real Alertmanager with the shipped configuration, in front of stand-ins for
//!   Slack, PagerDuty and a mail relay.
//! - `posting`: Alertmanagers that hang, refuse or are gone.
//!
//! Thresholds are the defaults; windows are shorter, since nobody wants to wait for a minute.

mod alertmanager;
mod bed;
mod causes;
mod mail;
mod posting;
mod proxy;
mod receiver;
