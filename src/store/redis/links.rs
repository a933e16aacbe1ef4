//! One core's links of a store: one to each server that has keys.
//!
//! They are made on the runtime of the core that uses them, and stay there: a query's way to the
//! server crosses no core. When the route changes, links to new servers are made, and those that
//! no keys lead to any more are given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::task::AbortHandle;

use super::link::Link;
use super::queue::{Missed, Work};
use super::route::Route;
use super::timer::{Elapsed, Timer};
use super::{
    Failure, FailureClass, FleetCall, Heartbeat, Place, Redirect, RedisStore, Reply, slot_of,
};
use crate::clock::Timestamp;
use crate::event::BreakerState;
use crate::model::{Decision, Key};
use crate::store::Unasked;

/// One core's links. Dropped, they end.
#[derive(Debug)]
pub(crate) struct Links {
    store: Arc<RedisStore>,
    table: Arc<ArcSwap<Table>>,
    timer: Arc<Timer>,
    _tasks: [Running; 2],
}

/// The links by what leads to them.
#[derive(Debug, Default)]
struct Table {
    route: Route,
    links: HashMap<Place, Arc<Kept>>,
    /// With a route to one server, the link to it.
    one: Option<Arc<Link>>,
}

/// A link and the task that keeps it up.
#[derive(Debug)]
struct Kept {
    link: Arc<Link>,
    _task: Running,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Links {
    /// Makes links on this runtime, and keeps them as the route says.
    pub(crate) fn open(store: &Arc<RedisStore>, lane: usize) -> Self {
        let table = Arc::new(ArcSwap::from_pointee(Table::default()));
        let keeper = tokio::spawn(keep(Arc::clone(store), lane, Arc::clone(&table)));
        let timer = Arc::new(Timer::default());
        let waker = tokio::spawn(Arc::clone(&timer).run());
        Self {
            store: Arc::clone(store),
            table,
            timer,
            _tasks: [keeper, waker].map(|task| Running(task.abort_handle())),
        }
    }

    /// Waits until the route is known and each link has been tried.
    pub(crate) async fn settled(&self) {
        let mut route = self.store.route();
        // The store's resolver lives as long as the store.
        if route
            .wait_for(|route| *route != Route::Unknown)
            .await
            .is_err()
        {
            return;
        }
        loop {
            let table = self.table.load_full();
            let current = table.route == *route.borrow();
            if current {
                for kept in table.links.values() {
                    kept.link.settled().await;
                }
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The Cluster slot of a key; 0 where there are no slots.
    pub(crate) fn slot(&self, key: &Key) -> u16 {
        self.slot_of_name(key.as_bytes())
    }

    fn slot_of_name(&self, name: &[u8]) -> u16 {
        match self.table.load().route.has_slots() {
            true => slot_of(name),
            false => 0,
        }
    }

    /// Which server has the keys of a slot now.
    pub(crate) fn place(&self, slot: u16) -> Option<Place> {
        self.table.load().route.place(slot).cloned()
    }

    /// Whether what `by` has charged in a slot is there still.
    pub(crate) fn has_charges_of(&self, slot: u16, by: &Place) -> bool {
        self.table.load().route.has_charges_of(slot, by)
    }

    /// Whether no core's link to the server of a slot has trouble.
    pub(crate) fn is_closed(&self, slot: u16) -> bool {
        let place = self.place(slot);
        place.is_some_and(|place| self.store.health().is_closed(&place))
    }

    /// Has `work` done, where its keys are.
    ///
    /// # Errors
    /// If nobody says by when it is due that it was done.
    pub(crate) async fn ask(&self, work: Work, now: Instant) -> Result<Decision, Unasked> {
        let due = work.due;
        let mut link = self.link(work.slot).ok_or(Unasked::Gone)?;
        let mut asking = false;
        for _ in 0..MOST_WAYS {
            let reply = link.submit(work.clone(), asking, now)?;
            match self.timer.until(due, reply).await {
                Ok(Ok(Ok(decision))) => return Ok(decision),
                // The call had as long as this query, and was told first that its time is over.
                Ok(Ok(Err(Missed::Failed(FailureClass::Timeout)))) if super::now() >= due => {
                    return Err(Unasked::Late);
                }
                Ok(Ok(Err(Missed::Failed(class)))) => return Err(Unasked::Failed(class)),
                Ok(Ok(Err(Missed::Unsent(why)))) => return Err(why),
                Ok(Ok(Err(Missed::Moved(Redirect { to, ask, .. })))) => {
                    link = self.link_to(&to).ok_or(Unasked::Gone)?;
                    asking = ask;
                }
                Ok(Err(_dropped)) => return Err(Unasked::Lost),
                Err(Elapsed) => return Err(Unasked::Late),
            }
        }
        Err(Unasked::Gone)
    }

    /// The state of the store as a whole, and since when.
    pub(crate) fn state(&self) -> (BreakerState, Timestamp) {
        self.store.health().state()
    }

    /// Says that a replica lives, or leaves; which ones live.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(crate) async fn beat(&self, beat: &Heartbeat<'_>) -> Result<Vec<String>, Failure> {
        let slot = self.slot_of_name(self.store.state_key().as_bytes());
        let link = self.link_or_failure(slot)?;
        link.run_errand(async |line| line.beat(beat).await).await
    }

    /// Adds to what the fleet tells of itself.
    ///
    /// # Errors
    /// If the server does not say that it has. It surely has not if the class says
    /// [`unexecuted`](FailureClass::unexecuted).
    pub(crate) async fn tell(&self, call: &FleetCall) -> Result<(), Failure> {
        let link = self.link_or_failure(self.slot_of_name(call.key().as_bytes()))?;
        link.run_errand(async |line| line.tell(call).await).await
    }

    /// What a command that only reads answers of a key.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(crate) async fn read(
        &self,
        command: &'static str,
        key: &str,
        more: &[&'static str],
    ) -> Result<Reply, Failure> {
        let link = self.link_or_failure(self.slot_of_name(key.as_bytes()))?;
        let key = std::iter::once(Bytes::from(key.to_owned()));
        let more = more.iter().map(|part| Bytes::from_static(part.as_bytes()));
        let arguments: Vec<Bytes> = key.chain(more).collect();
        link.run_errand(async |line| line.command(command, arguments).await)
            .await
    }

    /// Which server has a key, if no core has trouble with it now.
    pub(crate) fn calm_place(&self, key: &str) -> Option<Place> {
        let slot = self.slot_of_name(key.as_bytes());
        self.place(slot).filter(|_| self.is_closed(slot))
    }

    /// The store that they lead to.
    pub(crate) fn store(&self) -> &Arc<RedisStore> {
        &self.store
    }

    /// Drops a counter; whether there was one.
    ///
    /// # Errors
    /// If the server does not answer within `patience`.
    pub(crate) async fn delete(&self, key: &Key, patience: Duration) -> Result<bool, Failure> {
        let link = self.link_or_failure(self.slot(key))?;
        link.run_errand(async |line| line.delete(key, patience).await)
            .await
    }

    fn link_or_failure(&self, slot: u16) -> Result<Arc<Link>, Failure> {
        self.link(slot).ok_or_else(|| {
            let why = "it is not known yet which server has the key";
            Failure::new(FailureClass::Refused, why)
        })
    }

    fn link(&self, slot: u16) -> Option<Arc<Link>> {
        let table = self.table.load();
        if let Some(one) = &table.one {
            return Some(Arc::clone(one));
        }
        let kept = table.links.get(table.route.place(slot)?)?;
        Some(Arc::clone(&kept.link))
    }

    /// The link to a server that another one told of; there may be none before the route has
    /// been looked up again.
    fn link_to(&self, place: &Place) -> Option<Arc<Link>> {
        let table = self.table.load();
        Some(Arc::clone(&table.links.get(place)?.link))
    }
}

/// Keeps the table as the route says, for ever.
async fn keep(store: Arc<RedisStore>, lane: usize, table: Arc<ArcSwap<Table>>) {
    let mut routes = store.route();
    loop {
        let route = routes.borrow_and_update().clone();
        // Links that nothing leads to any more end here, with the last query on its way to them.
        let next = table.load().follow(route, &store, lane);
        table.store(Arc::new(next));
        if routes.changed().await.is_err() {
            return;
        }
    }
}

impl Table {
    /// The table for another route; links that are still of use go on.
    fn follow(&self, route: Route, store: &Arc<RedisStore>, lane: usize) -> Self {
        let kept = |place: &Place| match self.links.get(place) {
            Some(kept) => Arc::clone(kept),
            None => {
                let link = Arc::new(Link::new(store, lane, place.clone()));
                let task = tokio::spawn(Arc::clone(&link).run());
                let task = Running(task.abort_handle());
                Arc::new(Kept { link, _task: task })
            }
        };
        let links: HashMap<Place, Arc<Kept>> = route
            .places()
            .into_iter()
            .map(|place| (place.clone(), kept(place)))
            .collect();
        let one = match &route {
            Route::One(place) => links.get(place).map(|kept| Arc::clone(&kept.link)),
            Route::Slots(_) | Route::Unknown | Route::Nowhere => None,
        };
        Self { route, links, one }
    }
}

/// How often a query follows a server's word that another one has its keys.
const MOST_WAYS: usize = 3;
