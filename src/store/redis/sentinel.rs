//! Who is the primary, as sentinels say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::scouts::{Answers, LATE, Scouts};
use super::{Access, Connection, Failure, FailureClass, Place, Reply, diagnosis};

/// What a sentinel knows of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The primary.
    pub primary: Place,
    /// The other sentinels that watch it.
    pub others: Vec<Place>,
    /// Grows with each failover, so that of two sentinels the one that has not heard of the last
    /// failover can be told. 0 where our user may not ask.
    pub epoch: u64,
}

/// The primary of a service, and what other sentinels there are.
///
/// All sentinels are asked at once, and of those that answer in time the one that has heard of most
/// failovers is believed; whether the place that it names really is a primary, that server has to say.
/// `access` is to the sentinels; its database does not matter.
///
/// # Errors
/// If none knows the service: then which of them said so, or what kept the last from answering.
pub async fn primary_by_sentinel(
    sentinels: &[Place],
    service: &str,
    access: &Access,
    within: Duration,
) -> Result<Watched, Failure> {
    let scouts = Scouts::new(within);
    let watched = watched(&scouts, sentinels, (service, access), within).await;
    let best = watched.answers.iter().max_by_key(|(_, known)| known.epoch);
    match best {
        Some((_, best)) => Ok(best.clone()),
        None => Err(watched.into_failure().unwrap_or_else(none_given)),
    }
}

/// What each sentinel says of a service.
pub(super) async fn watched(
    scouts: &Scouts,
    sentinels: &[Place],
    (service, access): (&str, &Access),
    within: Duration,
) -> Answers<Watched> {
    let service = service.to_owned();
    let ask = move |place: Place, connection: Arc<Connection>| {
        let service = service.clone();
        async move { ask(&place, &connection, &service, within).await }
    };
    // They have none.
    let access = Access {
        database: 0,
        ..access.clone()
    };
    let how = (|_: &Place| access.clone(), |_: &Place| true);
    scouts.ask(sentinels, how, LATE, ask).await
}

fn none_given() -> Failure {
    Failure::new(FailureClass::MisConfigured, "no sentinel is given")
}

async fn ask(
    place: &Place,
    connection: &Connection,
    service: &str,
    within: Duration,
) -> Result<Watched, Failure> {
    let question = |what: &'static str| {
        let arguments = vec![what.into(), Bytes::copy_from_slice(service.as_bytes())];
        connection.command("SENTINEL", arguments, within)
    };
    // First, so that what is said next is not older. A user that may not ask for it can do without.
    let about = permitted(question("MASTER").await)?;
    let epoch = about.field("config-epoch").and_then(Reply::number);
    let primary = match question("GET-MASTER-ADDR-BY-NAME").await? {
        Reply::Nil => return Err(unknown(place, service)),
        reply => match reply.list() {
            [host, port] => endpoint(Some(host), Some(port)),
            _ => None,
        },
    };
    let primary = primary.ok_or_else(|| diagnosis::garbage(place, "no address of a primary"))?;
    let others = question("SENTINELS").await?;
    let others = others
        .list()
        .iter()
        .filter_map(|other| endpoint(other.field("ip"), other.field("port")))
        .collect();
    Ok(Watched {
        primary,
        others,
        epoch: epoch
            .and_then(|epoch| u64::try_from(epoch).ok())
            .unwrap_or_default(),
    })
}

/// What was answered; nothing to a user that may not ask, or of a service that is not known.
pub(super) fn permitted(answer: Result<Reply, Failure>) -> Result<Reply, Failure> {
    match answer {
        Err(failure)
            if matches!(
                failure.class,
                FailureClass::NoPermission | FailureClass::Other
            ) =>
        {
            Ok(Reply::Nil)
        }
        answer => answer,
    }
}

fn unknown(place: &Place, service: &str) -> Failure {
    let detail = format!(
        "the sentinel {place} knows no service {service:?}: check sentinelServiceName (SENTINEL \
         MASTERS lists the names)"
    );
    Failure::new(FailureClass::MisConfigured, detail)
}

fn endpoint(host: Option<&Reply>, port: Option<&Reply>) -> Option<Place> {
    let host = host?.text().filter(|host| !host.is_empty())?;
    let port = u16::try_from(port?.number()?).ok()?;
    (port != 0).then(|| Place::tcp(host, port))
}
