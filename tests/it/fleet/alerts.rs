//! The history of alerts.

use std::sync::Arc;

use parking_lot::Mutex;
use tollgate::event::{AlertChanged, AlertState, DomainTotals, Total, Totals};
use tollgate::store::{FleetSource, Keeper};

use super::bed::Place;
use crate::process::until_async;
use crate::reactions::{Rig, Set};
use crate::topology::{Flavour, Reply, Single, every_key_expires};

fn change(state: AlertState, at_ms: u64) -> AlertChanged {
    AlertChanged {
        alert: "store_down",
        state,
        severity: "critical",
        value: 12.5,
        threshold: 10.0,
        at_ms,
    }
}

#[tokio::test]
async fn alerts_are_noted_with_the_domains_they_concern_also_those_of_an_outage() {
    let place = Place::Single(Single::start(Flavour::Redis7).await);
    let rig = Rig::start(&place.topology().url(), Set::default()).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::clone(&served);
    let source = FleetSource {
        totals: Arc::new(move || counted.lock().clone()),
        domains: Arc::new(|| vec!["web".into(), "shop".into()]),
    };
    let keeper = Keeper::telling(&rig.lane, source);
    let alerts = keeper.alerts().unwrap();

    // Nothing was served yet, so it concerns whatever may be.
    alerts.send(change(AlertState::Firing, 1)).await.unwrap();
    for domain in ["shop", "web"] {
        until_async("it to be noted", async || {
            (place.alerts(domain).await.len() == 1).then_some(())
        })
        .await;
    }
    let noted = &place.alerts("shop").await[0];
    for (name, value) in [
        ("alert", "store_down"),
        ("state", "firing"),
        ("severity", "critical"),
        ("value", "12.5"),
        ("threshold", "10"),
        ("at", "1"),
        ("replica", rig.lane.shared().replica()),
    ] {
        assert_eq!(noted.after(name).as_deref(), Some(value), "{noted:?}");
    }

    let mut totals = Totals::default();
    totals.add(Total::Requests, 1);
    served.lock().push(DomainTotals {
        domain: "shop".into(),
        totals,
    });
    place.server_alone().cli(&["SAVE"]).await;
    place.server_alone().kill();
    until_async("it to be seen", async || rig.trouble().map(drop)).await;
    alerts.send(change(AlertState::Resolved, 2)).await.unwrap();
    alerts.send(change(AlertState::Firing, 3)).await.unwrap();
    until_async("it to be taken", async || {
        (alerts.capacity() == alerts.max_capacity()).then_some(())
    })
    .await;
    place.server_alone().restart().await;
    until_async("those of the outage to be noted", async || {
        (place.alerts("shop").await.len() == 3).then_some(())
    })
    .await;
    let at = |noted: &Reply| noted.after("at").unwrap();
    let noted: Vec<String> = place.alerts("shop").await.iter().map(at).collect();
    assert_eq!(noted, ["1", "2", "3"]);
    assert_eq!(place.alerts("web").await.len(), 1, "it was not asked for");
    keeper.leave().await;
    assert_eq!(place.domains().await, ["shop", "web"]);
    every_key_expires(place.topology()).await;
}

#[tokio::test]
async fn the_last_alert_is_noted_when_a_replica_leaves() {
    let place = Place::Single(Single::start(Flavour::Redis7).await);
    let rig = Rig::start(&place.topology().url(), Set::default()).await;
    let source = FleetSource {
        totals: Arc::new(Vec::new),
        domains: Arc::new(|| vec!["shop".into()]),
    };
    let keeper = Keeper::telling(&rig.lane, source);
    let told = change(AlertState::Resolved, 7);
    keeper.alerts().unwrap().try_send(told).unwrap();
    keeper.leave().await;
    assert_eq!(place.alerts("shop").await.len(), 1);
}

#[tokio::test]
async fn a_domain_that_could_not_be_listed_is_listed_when_it_can() {
    let place = Place::Single(Single::start(Flavour::Redis7).await);
    let server = place.server_alone();
    server
        .cli(&["SET", "tollgate:domains", "a stranger's"])
        .await;
    let rig = Rig::start(&place.topology().url(), Set::default()).await;
    let mut totals = Totals::default();
    totals.add(Total::Requests, 1);
    let source = FleetSource {
        totals: Arc::new(move || {
            let domain = "shop".into();
            vec![DomainTotals { domain, totals }]
        }),
        domains: Arc::new(Vec::new),
    };
    let keeper = Keeper::telling(&rig.lane, source);
    until_async("the list to be refused", async || {
        let line = ["INFO", "commandstats"];
        server.info(&line, "cmdstat_zadd").await.map(drop)
    })
    .await;
    server.cli(&["DEL", "tollgate:domains"]).await;
    // Nothing more is asked for.
    until_async("it to be listed", async || {
        (place.domains().await == ["shop"]).then_some(())
    })
    .await;
    keeper.leave().await;
    assert_eq!(place.total("shop", "requests").await, 1);
}
