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

    /// Whether the server of a slot has what `by` has charged there. So it does if a slot was moved from one node of a Cluster to
    /// another one; but if `by` has gone, a replica of it took over, which may have missed the charge.
    pub(super) fn has_charges_of(&self, slot: u16, by: &Place) -> bool {
        match self {
            Self::Unknown | Self::Nowhere => false,
            Self::One(place) => place == by,
            Self::Slots(map) => map.place(slot).is_some() && map.places().any(|place| place == by),
        }
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
