//! One core's way to the shared store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::parted;
use super::parts::Part;
use super::{SharedStore, Unasked, Unavailable};
use crate::model::{Check, Decision, TraceRef, Verdict, Verdicts};
use crate::store::redis::{Failure, LateReply, Links, Place, Task, Work, now};

/// A query, as the store is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it is about.
    pub checks: Arc<[Check]>,
    /// Whether anything is denied at all.
    pub enforce: bool,
    /// Where queries of its domain are counted.
    pub domain: u32,
    /// The call's span, if it is recorded.
    pub trace: Option<TraceRef>,
}

impl Asked {
    /// What is asked of a server that decides some of it.
    pub(super) const fn task(&self) -> Task {
        Task::Decide {
            enforce: self.enforce,
            domain: self.domain,
            trace: self.trace,
        }
    }
}

/// One core's way to the shared store. Made on the runtime of that core; clones share it.
#[derive(Clone, Debug)]
pub struct Lane(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Arc<SharedStore>,
    main: Links,
    per_second: Option<Links>,
}

/// Where a check is decided: in which store, and in which slot of it. Ascending.
pub(super) type Site = (bool, u16);

impl Lane {
    /// Makes its links on this runtime. Lanes of a process have different numbers.
    #[must_use]
    pub fn open(shared: &Arc<SharedStore>, number: usize) -> Self {
        let per_second = shared.per_second.as_ref();
        Self(Arc::new(Inner {
            main: Links::open(&shared.main, number),
            per_second: per_second.map(|store| Links::open(store, number)),
            shared: Arc::clone(shared),
        }))
    }

    /// Waits until the stores have answered, or have been found not to, at most `patience`.
    pub async fn settled(&self, patience: Duration) {
        let settled = async {
            self.0.main.settled().await;
            if let Some(per_second) = &self.0.per_second {
                per_second.settled().await;
            }
        };
        let _late = tokio::time::timeout(patience, settled).await;
    }

    /// Decides a query, as [`MemoryStore::decide`](crate::store::MemoryStore::decide) does, and
    /// waits for the store until `due`.
    ///
    /// # Errors
    /// If the store cannot be asked in time and a rule wants that to be an error. Nobody was
    /// charged then, unless by a call that nobody has heard of since.
    pub async fn decide(&self, asked: Asked, due: Instant) -> Result<Decision, Unavailable> {
        let inner = &self.0;
        let Some((first, rest)) = asked.checks.split_first() else {
            return Ok(Decision {
                verdicts: Verdicts::new(),
                denied: false,
            });
        };
        let site = inner.site(first);
        if rest.iter().any(|check| inner.site(check) != site) {
            // In a task of its own: a caller who goes leaves nothing half done.
            let decided = parted::decide(Arc::clone(inner), asked, due);
            return match tokio::spawn(decided).await {
                Ok(decided) => decided,
                // The runtime ends.
                Err(_aborted) => Err(Unavailable(Unasked::Gone)),
            };
        }
        let task = asked.task();
        let Asked {
            checks, enforce, ..
        } = &asked;
        match inner.ask(site, Arc::clone(checks), task, due).await {
            Ok(decision) => {
                inner.shared.local.observe(checks, &decision.verdicts);
                Ok(decision)
            }
            Err(why) => inner.shared.without(checks, *enforce, why),
        }
    }

    /// What a query of this check alone would be answered, by the store or, if that does not answer
    /// within `patience`, without it. Charges nothing.
    pub async fn inspect(&self, check: &Check, patience: Duration) -> Verdict {
        let inner = &self.0;
        let asked: Arc<[Check]> = Arc::new([check.clone()]);
        let due = now() + patience;
        let told = inner.ask(inner.site(check), asked, Task::Try, due).await;
        let verdict = told.ok().and_then(|told| told.verdicts.first().copied());
        verdict.unwrap_or_else(|| inner.shared.would_say(check))
    }

    /// Drops the counter of a check, in the store and here.
    ///
    /// # Errors
    /// If the store does not do so within `patience`.
    pub async fn forget(&self, check: &Check, patience: Duration) -> Result<(), Failure> {
        let inner = &self.0;
        inner
            .links(inner.site(check))
            .delete(&check.key, patience)
            .await?;
        inner.shared.local.forget(check, inner.shared.now());
        Ok(())
    }

    /// What all lanes share.
    #[must_use]
    pub fn shared(&self) -> &Arc<SharedStore> {
        &self.0.shared
    }

    /// The main store's links.
    pub(super) fn main(&self) -> &Links {
        &self.0.main
    }

    /// The links of the store for limits per second, if that has one of its own.
    pub(super) fn per_second(&self) -> Option<&Links> {
        self.0.per_second.as_ref()
    }
}

impl Inner {
    /// Where a check is decided.
    pub(super) fn site(&self, check: &Check) -> Site {
        let per_second = self.shared.is_per_second(check);
        (per_second, self.links((per_second, 0)).slot(&check.key))
    }

    /// Which server has the keys there now.
    pub(super) fn server(&self, site: Site) -> Option<Place> {
        self.links(site).place(site.1)
    }

    /// Whether what `by` has charged there is there still.
    pub(super) fn has_charges_of(&self, site: Site, by: Option<&Place>) -> bool {
        by.is_some_and(|by| self.links(site).has_charges_of(site.1, by))
    }

    /// Whether no core has trouble with the server there.
    pub(super) fn is_closed(&self, site: Site) -> bool {
        self.links(site).is_closed(site.1)
    }

    /// Has something done there.
    pub(super) async fn ask(
        &self,
        site: Site,
        checks: Arc<[Check]>,
        task: Task,
        due: Instant,
    ) -> Result<Decision, Unasked> {
        let work = Work {
            checks,
            task,
            slot: site.1,
            due,
            late: None,
        };
        self.links(site).ask(work, now()).await
    }

    /// The same for a part of a query; `late` gets an answer that comes after `due`.
    pub(super) async fn ask_part(
        &self,
        part: &Part<Site>,
        task: Task,
        due: Instant,
        late: LateReply,
    ) -> Result<Decision, Unasked> {
        let work = Work {
            checks: Arc::clone(&part.checks),
            task,
            slot: part.place.1,
            due,
            late: Some(late),
        };
        self.links(part.place).ask(work, now()).await
    }

    fn links(&self, (per_second, _): Site) -> &Links {
        match &self.per_second {
            Some(links) if per_second => links,
            _ => &self.main,
        }
    }
}
