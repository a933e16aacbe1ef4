//! Two servers that know nothing of each other, for `failover_urls`.

use super::{Flavour, Server, Single, Topology};

/// A first server and the one to go to when it is down. Counters of the one are not on the other.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) first: Single,
    pub(crate) second: Single,
}

impl Pair {
    pub(crate) async fn start(flavour: Flavour) -> Self {
        Self {
            first: Single::start(flavour).await,
            second: Single::start(flavour).await,
        }
    }
}

impl Topology for Pair {
    fn url(&self) -> String {
        format!("{},{}", self.first.url(), self.second.url())
    }

    fn stores(&self) -> Vec<&Server> {
        vec![&self.first.server, &self.second.server]
    }
}
