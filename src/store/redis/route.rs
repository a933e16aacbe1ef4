//! Which server has which keys.

use std::sync::Arc;

use super::{Place, SlotMap};

/// Which server has which keys, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Route {
    /// Not known yet.
    #[default]
    Unknown,
    /// No server may be used, though some may answer.
    Nowhere,
    /// One server has all of them.
    One(Place),
    /// A Cluster: each slot its own.
    Slots(Arc<SlotMap>),
}

impl Route {
    /// Every server that has keys, each once.
    pub(super) fn places(&self) -> Vec<&Place> {
        match self {
            Self::Unknown | Self::Nowhere => Vec::new(),
            Self::One(place) => vec![place],
            Self::Slots(map) => map.places().collect(),
        }
    }

    /// Whether the keys of one call must share a slot.
    pub(super) const fn has_slots(&self) -> bool {
        matches!(self, Self::Slots(_))
    }

    /// Who has the keys of a slot.
    pub(super) fn place(&self, slot: u16) -> Option<&Place> {
        match self {
            Self::Unknown | Self::Nowhere => None,
            Self::One(place) => Some(place),
            Self::Slots(map) => map.place(slot),
        }
    }
}
