//! What can go wrong with a server, and what is done about it.
//!
//! | class | what it means | reaction | not executed for sure |
//! |---|---|---|---|
//! | `refused` | nobody listens, no way there, no such name, no free place for a client | reconnect | yes |
//! | `reset` | the connection was lost | reconnect | no |
//! | `timeout` | no answer in time; the call may still be carried out | wait | no |
//! | `loading` | the server reads its data after a start | wait | yes |
//! | `read_only` | a replica, often a primary of before a failover | reconnect | yes |
//! | `moved` | another node of the cluster has the slot | reroute | yes |
//! | `ask` | another node is taking the slot over, and has this key already | reroute | yes |
//! | `try_again` | keys of one slot are on two nodes while it moves | split and retry | yes |
//! | `cluster_down` | nobody has the slot, or the cluster has no majority | reroute | no: fred ends all calls of the connection with it |
//! | `cross_slot` | keys of one call are in several slots | wait | yes |
//! | `no_script` | the server does not know the script: a restart, a failover, `SCRIPT FLUSH` | load scripts | yes |
//! | `out_of_memory` | `maxmemory` is reached and nothing may be evicted | wait | yes |
//! | `auth` | no password, a wrong one, or one that cannot be read | reconnect | yes |
//! | `no_permission` | the ACL user lacks a command or keys | wait | no: a script stops where it lacks one |
//! | `master_down` | a replica without its primary that may not serve | reconnect | yes |
//! | `replica` | a replica where a primary is expected | reconnect | yes |
//! | `busy` | the server is held up by somebody's endless script | wait | yes |
//! | `tls` | the handshake failed | reconnect | no |
//! | `protocol` | an answer that makes no sense | reconnect | no |
//! | `misconfigured` | the server must be set up otherwise, or the setting is wrong | wait | yes |
//! | `other` | anything else that it says | wait | no |

use super::Place;

/// A call that failed, or a connection. Shows as one line: what happened, and what to check. It never
/// holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// Which kind.
    pub class: FailureClass,
    /// Where the slot is instead, if the server says so.
    pub redirect: Option<Redirect>,
    /// For people.
    pub detail: String,
}

impl Failure {
    /// A failure without a redirect.
    #[must_use]
    pub fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        Self {
            class,
            redirect: None,
            detail: detail.into(),
        }
    }

    /// There is a replica where a primary is expected.
    #[must_use]
    pub fn replica(place: &Place, of: &Place) -> Self {
        let detail = format!(
            "{place} is a replica of {of}; nothing can be counted there: check the address, or use \
             redis-sentinel:// or redis-cluster://, which follow a failover"
        );
        Self::new(FailureClass::Replica, detail)
    }
}

/// Where a slot is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The slot of the keys.
    pub slot: u16,
    /// The node that has it.
    pub to: Place,
    /// For this call only, which has to follow an `ASKING` there; else for good.
    pub ask: bool,
}

/// Kinds of failures; the table above says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Nobody listens, or there is no way there.
    Refused,
    /// The connection was lost.
    Reset,
    /// No answer in time.
    Timeout,
    /// The server reads its data.
    Loading,
    /// The server does not write.
    ReadOnly,
    /// Another node has the slot.
    Moved,
    /// Another node has this key of the slot.
    Ask,
    /// Keys of a moving slot are on two nodes.
    TryAgain,
    /// The cluster does not serve the slot.
    ClusterDown,
    /// Keys in several slots.
    CrossSlot,
    /// The script is not loaded.
    NoScript,
    /// The server is full.
    OutOfMemory,
    /// The password is missing or wrong.
    Auth,
    /// The user may not do this.
    NoPermission,
    /// A replica has lost its primary and does not serve.
    MasterDown,
    /// A replica where a primary is expected.
    Replica,
    /// The server is held up by a script.
    Busy,
    /// The handshake failed.
    Tls,
    /// An answer that makes no sense.
    Protocol,
    /// The server must be set up otherwise.
    MisConfigured,
    /// Anything else.
    Other,
}

impl FailureClass {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Loading,
        Self::ReadOnly,
        Self::Moved,
        Self::Ask,
        Self::TryAgain,
        Self::ClusterDown,
        Self::CrossSlot,
        Self::NoScript,
        Self::OutOfMemory,
        Self::Auth,
        Self::NoPermission,
        Self::MasterDown,
        Self::Replica,
        Self::Busy,
        Self::Tls,
        Self::Protocol,
        Self::MisConfigured,
        Self::Other,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Loading => "loading",
            Self::ReadOnly => "read_only",
            Self::Moved => "moved",
            Self::Ask => "ask",
            Self::TryAgain => "try_again",
            Self::ClusterDown => "cluster_down",
            Self::CrossSlot => "cross_slot",
            Self::NoScript => "no_script",
            Self::OutOfMemory => "out_of_memory",
            Self::Auth => "auth",
            Self::NoPermission => "no_permission",
            Self::MasterDown => "master_down",
            Self::Replica => "replica",
            Self::Busy => "busy",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::MisConfigured => "misconfigured",
            Self::Other => "other",
        }
    }

    /// What is done about it.
    #[must_use]
    pub const fn reaction(self) -> Reaction {
        match self {
            Self::NoScript => Reaction::LoadScripts,
            Self::Refused
            | Self::Reset
            | Self::ReadOnly
            | Self::Auth
            | Self::MasterDown
            | Self::Replica
            | Self::Tls
            | Self::Protocol => Reaction::Reconnect,
            Self::Moved | Self::Ask | Self::ClusterDown => Reaction::Reroute,
            Self::TryAgain => Reaction::SplitAndRetry,
            Self::Timeout
            | Self::Loading
            | Self::CrossSlot
            | Self::OutOfMemory
            | Self::NoPermission
            | Self::Busy
            | Self::MisConfigured
            | Self::Other => Reaction::Wait,
        }
    }

    /// The call has surely changed nothing, so that it may be made again.
    #[must_use]
    pub const fn unexecuted(self) -> bool {
        match self {
            Self::Refused
            | Self::Loading
            | Self::ReadOnly
            | Self::Moved
            | Self::Ask
            | Self::TryAgain
            | Self::CrossSlot
            | Self::NoScript
            | Self::OutOfMemory
            | Self::Auth
            | Self::MasterDown
            | Self::Replica
            | Self::Busy
            | Self::MisConfigured => true,
            Self::Reset
            | Self::Timeout
            | Self::ClusterDown
            | Self::NoPermission
            | Self::Tls
            | Self::Protocol
            | Self::Other => false,
        }
    }
}

/// What is done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// Load the scripts, then make the call again.
    LoadScripts,
    /// Give the connection up and find the primary anew.
    Reconnect,
    /// Send it to the node that the redirect names; without one, ask for all slots anew.
    Reroute,
    /// Make a call for each key, a little later.
    SplitAndRetry,
    /// Keep the connection: time helps, or people do.
    Wait,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_class_has_a_name_of_its_own_and_a_row_in_the_table() {
        let names: HashSet<&str> = FailureClass::ALL.iter().map(|class| class.name()).collect();
        assert_eq!(names.len(), FailureClass::ALL.len());
        for class in FailureClass::ALL {
            let row = include_str!("failure.rs")
                .lines()
                .find(|line| line.starts_with(&format!("//! | `{}` |", class.name())))
                .unwrap_or_else(|| panic!("no row for {}", class.name()));
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let reaction = match class.reaction() {
                Reaction::LoadScripts => "load scripts",
                Reaction::Reconnect => "reconnect",
                Reaction::Reroute => "reroute",
                Reaction::SplitAndRetry => "split and retry",
                Reaction::Wait => "wait",
            };
            assert_eq!(cells[3], reaction, "{row}");
            assert_eq!(cells[4] == "yes", class.unexecuted(), "{row}");
        }
    }
}
