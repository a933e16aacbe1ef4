//! Who is the primary, as sentinels say.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::connect::{dial, in_time};
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
/// All sentinels are asked at once, and the first that knows the service is believed; whether the
/// place that it names really is a primary, that server has to say. `access` is to the sentinels;
/// its database does not matter.
///
/// # Errors
/// If none knows the service: then which of them said so, or what kept the last from answering.
pub async fn primary_by_sentinel(
    sentinels: &[Place],
    service: &str,
    access: &Access,
    within: Duration,
) -> Result<Watched, Failure> {
    let service = service.to_owned();
    let ask =
        move |place, connection| async move { ask(&place, &connection, &service, within).await };
    first_answer(sentinels, access, within, ask)
        .await
        .unwrap_or_else(|| {
            Err(Failure::new(
                FailureClass::MisConfigured,
                "no sentinel is given",
            ))
        })
}

/// Connects to all places at once and asks each; the first answer, or else what kept one of them
/// from answering. None if there are no places. What still runs is ended.
pub(super) async fn first_answer<T, F>(
    places: &[Place],
    access: &Access,
    within: Duration,
    ask: impl FnOnce(Place, Connection) -> F + Clone + Send + 'static,
) -> Option<Result<T, Failure>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for place in places {
        let (place, ask) = (place.clone(), ask.clone());
        let access = Access {
            database: 0,
            ..access.clone()
        };
        asked.spawn(async move {
            let all = async {
                let connection = Box::pin(dial(&place, &access, within)).await?;
                ask(place.clone(), connection).await
            };
            in_time(&place, &access, within, all).await
        });
    }
    let mut failures = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(answer)) => return Some(Ok(answer)),
            Ok(Err(failure)) => failures.push(failure),
            Err(_runtime_ends) => {}
        }
    }
    failures.into_iter().max_by_key(telling).map(Err)
}

/// How much a failure tells: that nobody was there tells the least, and what somebody can put right
/// the most.
fn telling(failure: &Failure) -> u8 {
    match failure.class {
        FailureClass::Timeout => 0,
        FailureClass::Refused | FailureClass::Reset => 1,
        FailureClass::Loading | FailureClass::ClusterDown => 2,
        FailureClass::MisConfigured => 3,
        _ => 4,
    }
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
    // A user that may not ask for it can do without.
    let about = question("MASTER").await.unwrap_or(Reply::Nil);
    let epoch = about.field("config-epoch").and_then(Reply::number);
    Ok(Watched {
        primary,
        others,
        epoch: epoch
            .and_then(|epoch| u64::try_from(epoch).ok())
            .unwrap_or_default(),
    })
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
