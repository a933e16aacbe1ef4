//! Which node of a cluster has which slot.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::scouts::{Answers, LATE, Scouts};
use super::sentinel::permitted;
use super::slot::SLOTS;
use super::{Access, Connection, Failure, FailureClass, Place, Reply, diagnosis};

/// Which primary has which slot, as one node saw it.
#[derive(Clone, Debug)]
pub struct SlotMap {
    places: Vec<Place>,
    /// For each slot a position in `places`; one beyond them where nobody has it.
    owners: Vec<u16>,
    /// Of which place has which slot: maps are compared often, and have 16,384 slots.
    digest: u64,
}

/// The same servers for the same slots, in whatever order a node named them.
impl PartialEq for SlotMap {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for SlotMap {}

impl SlotMap {
    /// The primary of a slot, if there is one.
    #[must_use]
    pub fn place(&self, slot: u16) -> Option<&Place> {
        let owner = self.owners.get(usize::from(slot))?;
        self.places.get(usize::from(*owner))
    }

    /// All primaries that have slots, each once.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// Reads the answer of a node to `CLUSTER SLOTS`.
    ///
    /// Who does not know its own address says so by an empty one or none at all, and is at `asked`;
    /// `?` stands for a name that it was not given, beside which there may be an address.
    fn read(asked: &Place, reply: &Reply) -> Option<Self> {
        let Reply::List(ranges) = reply else {
            return None;
        };
        let mut map = Self {
            places: Vec::new(),
            owners: vec![u16::MAX; usize::from(SLOTS)],
            digest: 0,
        };
        for range in ranges {
            let [first, last, primary, ..] = range.list() else {
                return None;
            };
            let (first, last) = (slot(first)?, slot(last)?);
            let Some(place) = node(asked, primary.list()) else {
                continue;
            };
            let owner = map.position(place);
            let owners = map.owners.get_mut(usize::from(first)..=usize::from(last))?;
            owners.fill(owner);
        }
        map.digest = map.digest();
        Some(map)
    }

    fn digest(&self) -> u64 {
        let of_place = |place: &Place| {
            let mut hasher = DefaultHasher::new();
            place.hash(&mut hasher);
            hasher.finish()
        };
        let places: Vec<u64> = self.places.iter().map(of_place).collect();
        let mut hasher = DefaultHasher::new();
        for owner in &self.owners {
            let place = places.get(usize::from(*owner));
            hasher.write_u64(place.copied().unwrap_or(0));
        }
        hasher.finish()
    }

    fn position(&mut self, place: Place) -> u16 {
        let known = self.places.iter().position(|known| *known == place);
        let at = known.unwrap_or_else(|| {
            self.places.push(place);
            self.places.len().saturating_sub(1)
        });
        // A cluster has no more primaries than slots.
        u16::try_from(at).unwrap_or(u16::MAX)
    }
}

/// Asks nodes of a cluster which of them has which slot. All are asked at once, and of those that answer in
/// time the one is believed that has heard of most changes. The database of `access` does not matter.
///
/// # Errors
/// If none knows, why.
pub async fn slots(nodes: &[Place], access: &Access, within: Duration) -> Result<SlotMap, Failure> {
    let mut views = views(&Scouts::new(within), nodes, access, within).await;
    match best_views(&mut views).into_iter().max_by_key(|view| view.0) {
        Some((_, map)) => Ok(map),
        None => Err(views.into_failure().unwrap_or_else(none_given)),
    }
}

/// A cluster as one node sees it.
#[derive(Clone, Debug)]
pub(super) struct View {
    map: SlotMap,
    /// Grows with each failover.
    epoch: u64,
    /// It takes part in a majority, and every slot has a node.
    is_ok: bool,
}

/// How each node sees the cluster.
pub(super) async fn views(
    scouts: &Scouts,
    nodes: &[Place],
    access: &Access,
    within: Duration,
) -> Answers<View> {
    let ask = move |place: Place, connection: Arc<Connection>| async move {
        let question =
            |what: &'static str| connection.command("CLUSTER", vec![what.into()], within);
        // First, so that what is said next is not older. A user that may not ask for it can do without.
        let about = permitted(question("INFO").await)?;
        let reply = question("SLOTS").await?;
        let map = SlotMap::read(&place, &reply)
            .ok_or_else(|| diagnosis::garbage(&place, "CLUSTER SLOTS gives no slots"))?;
        if map.places.is_empty() {
            return Err(no_slots(&place));
        }
        let about = about.text().unwrap_or_default();
        let field = |name: &str| {
            let lines = about.lines();
            lines
                .filter_map(|line| line.split_once(':'))
                .find_map(|(key, value)| (key == name).then(|| value.trim()))
        };
        let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
        Ok(View {
            map,
            epoch: epoch.unwrap_or_default(),
            is_ok: field("cluster_state").is_none_or(|state| state == "ok"),
        })
    };
    // A cluster has one database only.
    let access = Access {
        database: 0,
        ..access.clone()
    };
    let how = (|_: &Place| access.clone(), |_: &Place| true);
    scouts.ask(nodes, how, LATE, ask).await
}

/// The maps of nodes that take part in a majority, each with its epoch; of all nodes if none does.
pub(super) fn best_views(views: &mut Answers<View>) -> Vec<(u64, SlotMap)> {
    let all = std::mem::take(&mut views.answers);
    let some_ok = all.iter().any(|(_, view)| view.is_ok);
    let best = all.into_iter().filter(|(_, view)| view.is_ok || !some_ok);
    best.map(|(_, view)| (view.epoch, view.map)).collect()
}

fn none_given() -> Failure {
    Failure::new(
        FailureClass::MisConfigured,
        "no node of the cluster is given",
    )
}

fn no_slots(place: &Place) -> Failure {
    let detail = format!(
        "{place} is a node of a cluster in which nobody has slots: check with CLUSTER INFO that it \
         is set up"
    );
    Failure::new(FailureClass::ClusterDown, detail)
}

fn slot(reply: &Reply) -> Option<u16> {
    let slot = u16::try_from(reply.number()?).ok()?;
    (slot < SLOTS).then_some(slot)
}

/// `[host, port, id, [name, value, ..]]`.
fn node(asked: &Place, node: &[Reply]) -> Option<Place> {
    let [host, port, rest @ ..] = node else {
        return None;
    };
    let port = u16::try_from(port.number()?)
        .ok()
        .filter(|&port| port != 0)?;
    let host = match host.text().as_deref() {
        None | Some("") => asked.host()?.to_owned(),
        Some("?") => rest.get(1)?.field("ip")?.text()?.into_owned(),
        Some(host) => host.to_owned(),
    };
    Some(Place::tcp(host, port))
}

#[cfg(test)]
mod tests {
    use super::super::route::Route;
    use super::*;

    fn text(text: &'static str) -> Reply {
        Reply::Text(text.into())
    }

    fn node(host: Reply, port: i64, more: Vec<Reply>) -> Reply {
        Reply::List(vec![
            host,
            Reply::Number(port),
            text("id"),
            Reply::List(more),
        ])
    }

    fn range(first: i64, last: i64, primary: Reply) -> Reply {
        let replica = node(text("10.9.9.9"), 1, Vec::new());
        Reply::List(vec![
            Reply::Number(first),
            Reply::Number(last),
            primary,
            replica,
        ])
    }

    fn read(ranges: Vec<Reply>) -> Option<SlotMap> {
        SlotMap::read(&Place::tcp("asked", 7000), &Reply::List(ranges))
    }

    #[test]
    fn slots_are_found_at_their_primary_and_gaps_at_nobody() {
        let a = || node(text("10.0.0.1"), 7001, Vec::new());
        let b = node(text("10.0.0.2"), 7002, Vec::new());
        let map = read(vec![
            range(0, 9, a()),
            range(20, 20, b),
            range(16_000, 16_383, a()),
        ]);
        let map = map.unwrap();
        let (a, b) = (Place::tcp("10.0.0.1", 7001), Place::tcp("10.0.0.2", 7002));
        assert_eq!(map.places().collect::<Vec<_>>(), [&a, &b]);
        for (slot, place) in [
            (0, Some(&a)),
            (9, Some(&a)),
            (10, None),
            (19, None),
            (20, Some(&b)),
            (21, None),
            (16_383, Some(&a)),
            (16_384, None),
            (u16::MAX, None),
        ] {
            assert_eq!(map.place(slot), place, "{slot}");
        }
    }

    #[test]
    fn charges_move_with_their_slot_and_not_to_a_replica_that_took_over() {
        let at = |host| node(text(host), 7000, Vec::new());
        let route = |ranges| Route::Slots(Arc::new(read(ranges).unwrap()));
        let (old, other) = (Place::tcp("10.0.0.1", 7000), Place::tcp("10.0.0.2", 7000));
        // The first slot has moved from the first node, which has others.
        let moved = route(vec![
            range(0, 0, at("10.0.0.2")),
            range(1, 9, at("10.0.0.1")),
        ]);
        assert!(moved.has_charges_of(0, &old));
        assert!(!moved.has_charges_of(20, &old), "the slot has no server");
        let taken_over = route(vec![range(0, 9, at("10.0.0.2"))]);
        assert!(!taken_over.has_charges_of(0, &old));
        assert!(taken_over.has_charges_of(0, &other));
        assert!(Route::One(old.clone()).has_charges_of(0, &old));
        assert!(!Route::One(other).has_charges_of(0, &old));
        assert!(!Route::Nowhere.has_charges_of(0, &old));
    }

    #[test]
    fn a_node_that_does_not_know_its_address_is_where_it_was_asked() {
        let asked = Place::tcp("asked", 7001);
        for unknown in [text(""), Reply::Nil] {
            let map = read(vec![range(0, 1, node(unknown, 7001, Vec::new()))]).unwrap();
            assert_eq!(map.place(0), Some(&asked));
        }
    }

    #[test]
    fn a_node_without_its_name_is_found_by_its_address_or_left_out() {
        let named = node(text("?"), 7001, vec![text("ip"), text("10.0.0.1")]);
        let map = read(vec![range(0, 1, named)]).unwrap();
        assert_eq!(map.place(0), Some(&Place::tcp("10.0.0.1", 7001)));
        let map = read(vec![range(0, 1, node(text("?"), 7001, Vec::new()))]).unwrap();
        assert_eq!((map.place(0), map.places().count()), (None, 0));
    }

    #[test]
    fn what_are_no_slots_is_refused() {
        let a = || node(text("10.0.0.1"), 7001, Vec::new());
        for wrong in [
            vec![text("x")],
            vec![Reply::List(vec![Reply::Number(0), Reply::Number(1)])],
            vec![range(0, 16_384, a())],
            vec![range(-1, 3, a())],
            vec![range(5, 3, a())],
        ] {
            assert_eq!(read(wrong.clone()), None, "{wrong:?}");
        }
        assert_eq!(SlotMap::read(&Place::tcp("asked", 1), &text("x")), None);
    }
}
