//! From what a server or the client library says to a [`Failure`].
//!
//! Redis 6.2 wraps an error inside a script in another ("ERR Error running script ... -READONLY
//! ..."), newer ones and Valkey do not, so a code counts wherever it stands as a word. The first
//! sign that fits wins.

use fred::error::{Error, ErrorKind};

use super::{Failure, FailureClass, Place, Redirect};

/// What a server's error means.
pub(super) fn answered(place: &Place, text: &str) -> Failure {
    let shown = cleaned(text);
    if let Some(redirect) = redirect(place, text) {
        let class = match redirect.ask {
            true => FailureClass::Ask,
            false => FailureClass::Moved,
        };
        let detail = format!(
            "slot {} is on {}, not on {place}",
            redirect.slot, redirect.to
        );
        return Failure {
            class,
            redirect: Some(redirect),
            detail,
        };
    }
    match SIGNS.iter().find(|sign| holds(text, sign.text)) {
        Some(sign) => Failure::new(
            sign.class,
            format!("{place} says \"{shown}\": {}", sign.advice),
        ),
        None => Failure::new(FailureClass::Other, format!("{place} says \"{shown}\"")),
    }
}

/// What the client library's error means.
pub(super) fn failed(place: &Place, error: &Error) -> Failure {
    let text = error.details();
    match error.kind() {
        ErrorKind::Timeout => timed_out(place),
        ErrorKind::Canceled => lost(place, "the connection was closed"),
        ErrorKind::IO | ErrorKind::Tls => unreachable(place, text),
        _ if LOST.contains(&text) => lost(place, text),
        kind => {
            let failure = answered(place, text);
            let garbled = matches!(
                kind,
                ErrorKind::Protocol | ErrorKind::Parse | ErrorKind::NotFound
            );
            match (failure.class, garbled) {
                (FailureClass::Other, true) => garbage(place, text),
                _ => failure,
            }
        }
    }
}

/// No answer in time.
pub(super) fn timed_out(place: &Place) -> Failure {
    let detail = format!(
        "{place} did not answer in time: check the network to it, and with SLOWLOG what keeps it busy"
    );
    Failure::new(FailureClass::Timeout, detail)
}

/// The connection is gone.
pub(super) fn lost(place: &Place, why: &str) -> Failure {
    let why = plain(why);
    let detail = format!("the connection to {place} was lost: {why}");
    Failure::new(FailureClass::Reset, detail)
}

/// An answer that makes no sense.
pub(super) fn garbage(place: &Place, what: &str) -> Failure {
    let detail = format!(
        "{place} does not answer as Redis does ({}): check that it is one; if it speaks TLS, the \
         scheme is rediss://",
        cleaned(what)
    );
    Failure::new(FailureClass::Protocol, detail)
}

/// What a failure of the socket or the handshake means.
fn unreachable(place: &Place, text: &str) -> Failure {
    let shown = plain(text);
    match SOCKET_SIGNS.iter().find(|sign| text.contains(sign.text)) {
        Some(sign) => Failure::new(
            sign.class,
            format!("cannot reach {place} ({shown}): {}", sign.advice),
        ),
        None => lost(place, text),
    }
}

/// `MOVED 3999 127.0.0.1:6381` or `ASK ...`; a node that does not know its own name says `:6381`.
fn redirect(asked: &Place, text: &str) -> Option<Redirect> {
    let mut words = text.split_ascii_whitespace();
    let ask = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let slot = words.next()?.parse().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let host = match host {
        "" | "?" => asked.host()?,
        named => named.trim_start_matches('[').trim_end_matches(']'),
    };
    let to = Place::tcp(host, port.parse().ok()?);
    Some(Redirect { slot, to, ask })
}

/// Whether a text holds another that is not part of a longer word.
fn holds(text: &str, sign: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices(sign).any(|(at, _)| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        let after = rest.strip_prefix(sign).unwrap_or_default();
        !inside(before.chars().next_back()) && !inside(after.chars().next())
    })
}

/// A server's text for people: one line of bounded length, without the arguments that it repeats,
/// among which a password may be.
pub(super) fn cleaned(text: &str) -> String {
    let text = ["with args beginning with", "with args:"]
        .iter()
        .fold(text, |text, sign| {
            text.split_once(sign).map_or(text, |(before, _)| before)
        });
    text.trim()
        .trim_end_matches(',')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect()
}

/// An error of the system as the library writes it, without the wrapping: `Os { code: 111, kind:
/// ConnectionRefused, message: "Connection refused" }`.
fn plain(text: &str) -> String {
    let inner = |start: &str, end: &str| {
        let (_, rest) = text.split_once(start)?;
        Some(rest.rsplit_once(end)?.0)
    };
    let text = inner("message: \"", "\"")
        .or_else(|| inner("error: ", " }"))
        .unwrap_or(text);
    cleaned(text.trim_matches('"').trim_end_matches('.'))
}

/// A text by which a failure is recognized.
struct Sign {
    text: &'static str,
    class: FailureClass,
    advice: &'static str,
}

const fn sign(text: &'static str, class: FailureClass, advice: &'static str) -> Sign {
    Sign {
        text,
        class,
        advice,
    }
}

/// In what servers say.
const SIGNS: [Sign; 29] = [
    sign(
        "NOSCRIPT",
        FailureClass::NoScript,
        "the script is loaded again; if that goes on, find what clears the server's scripts (SCRIPT FLUSH)",
    ),
    sign(
        "READONLY",
        FailureClass::ReadOnly,
        "it is a replica: the primary is elsewhere since a failover, or the address is wrong",
    ),
    sign(
        "LOADING",
        FailureClass::Loading,
        "it serves as soon as its data is read",
    ),
    sign(
        "TRYAGAIN",
        FailureClass::TryAgain,
        "the slot is moving to another node",
    ),
    sign(
        "CLUSTERDOWN",
        FailureClass::ClusterDown,
        "check with CLUSTER INFO that every slot has a node and a majority of them is up",
    ),
    sign(
        "CROSSSLOT",
        FailureClass::CrossSlot,
        "it is a cluster: use redis-cluster://",
    ),
    sign(
        "attempted to access a non local key",
        FailureClass::CrossSlot,
        "it is a cluster: use redis-cluster://",
    ),
    sign(
        "do not hash to the same slot",
        FailureClass::CrossSlot,
        "it is a cluster: use redis-cluster://",
    ),
    sign(
        "OOM",
        FailureClass::OutOfMemory,
        "raise maxmemory, or look for keys that never expire",
    ),
    sign("NOAUTH", FailureClass::Auth, "set a password"),
    sign(
        "WRONGPASS",
        FailureClass::Auth,
        "check the user name and the password, and that the user is on (ACL GETUSER)",
    ),
    sign("invalid password", FailureClass::Auth, "check the password"),
    sign(
        "DENIED",
        FailureClass::Auth,
        "set a password on the server, or bind it to the network that may reach it",
    ),
    sign("NOPERM", FailureClass::NoPermission, GRANT),
    sign("no permissions to", FailureClass::NoPermission, GRANT),
    sign(
        "run this command or subcommand",
        FailureClass::NoPermission,
        GRANT,
    ),
    sign("ACL failure", FailureClass::NoPermission, GRANT),
    sign(
        "MASTERDOWN",
        FailureClass::MasterDown,
        "it is a replica that has lost its primary",
    ),
    sign(
        "BUSY",
        FailureClass::Busy,
        "end the script that holds it up with SCRIPT KILL",
    ),
    sign(
        "MISCONF",
        FailureClass::MisConfigured,
        "it cannot save its data and so does not write: check its disk and its log",
    ),
    sign(
        "not allowed after non deterministic",
        FailureClass::MisConfigured,
        "set lua-replicate-commands to yes, its default on Redis 6.2",
    ),
    sign(
        "NOREPLICAS",
        FailureClass::MisConfigured,
        "fewer replicas are in step than min-replicas-to-write asks for",
    ),
    sign(
        "max number of clients",
        FailureClass::Refused,
        "raise maxclients, or look with CLIENT LIST for who holds connections",
    ),
    sign(
        "DB index",
        FailureClass::MisConfigured,
        "it has fewer databases than the number in the URL: raise `databases`, or use another",
    ),
    sign(
        "SELECT is not allowed",
        FailureClass::MisConfigured,
        "a cluster has one database only: leave the number out of the URL",
    ),
    sign(
        "cluster support disabled",
        FailureClass::MisConfigured,
        "it is no cluster: use redis:// or start it with cluster-enabled yes",
    ),
    sign(
        "SENTINEL",
        FailureClass::MisConfigured,
        "it is no sentinel: check the address, whose port usually is 26379",
    ),
    sign(
        "unknown command",
        FailureClass::MisConfigured,
        "Tollgate needs EVALSHA, SCRIPT LOAD and INFO: give it the server itself, not a proxy, and \
         do not rename them",
    ),
    sign(
        "unknown subcommand",
        FailureClass::MisConfigured,
        "Tollgate needs Redis 6.2 or newer, or Valkey",
    ),
];

const GRANT: &str = "give the user +info +script|load +evalsha and, for what the script does, \
                     +@read +@write +time on the keys with its prefix; in a Cluster also \
                     +cluster|slots +asking, in another database than 0 +select (ACL SETUSER)";

/// In what the system and the TLS library say; the more precise come first.
const SOCKET_SIGNS: [Sign; 18] = [
    sign(
        "UnknownIssuer",
        FailureClass::Tls,
        "its certificate is not from an authority that is trusted here: check tls.ca_file",
    ),
    sign(
        "BadSignature",
        FailureClass::Tls,
        "its certificate is from another authority of the same name: check tls.ca_file",
    ),
    sign(
        "CaUsedAsEndEntity",
        FailureClass::Tls,
        "its certificate is an authority's own: give the server one that is made for it",
    ),
    sign(
        "NotValidForName",
        FailureClass::Tls,
        "its certificate is for another name: check the host, or set tls.server_name",
    ),
    sign(
        "NotValidYet",
        FailureClass::Tls,
        "its certificate is not valid yet: check both clocks",
    ),
    sign(
        "Expired",
        FailureClass::Tls,
        "its certificate has expired: renew it, or check the clock here",
    ),
    sign(
        "InvalidCertificate",
        FailureClass::Tls,
        "its certificate is not accepted",
    ),
    sign(
        "InvalidContentType",
        FailureClass::Tls,
        "it does not speak TLS: use redis://, or the port that does",
    ),
    sign(
        "handshake eof",
        FailureClass::Tls,
        "it ended the handshake: check that the port speaks TLS, else use redis://",
    ),
    sign(
        "AlertReceived",
        FailureClass::Tls,
        "it refused the handshake: check tls.cert_file and tls.key_file, which it may ask for, and \
         the versions of TLS that it speaks",
    ),
    sign(
        "lookup address",
        FailureClass::Refused,
        "the name does not resolve: check it, and the DNS",
    ),
    sign(
        "Failed to resolve",
        FailureClass::Refused,
        "the name does not resolve: check it, and the DNS",
    ),
    sign(
        "ConnectionRefused",
        FailureClass::Refused,
        "nobody listens there: check the address, and that the server is up",
    ),
    sign(
        "NotFound",
        FailureClass::Refused,
        "there is no such socket: check the path, and `unixsocket` of the server",
    ),
    sign(
        "PermissionDenied",
        FailureClass::Refused,
        "Tollgate may not use it: check `unixsocketperm` of the server, or the firewall",
    ),
    sign(
        "Unreachable",
        FailureClass::Refused,
        "there is no way there: check the address, routes and firewall",
    ),
    sign(
        "TimedOut",
        FailureClass::Timeout,
        "nobody answers there: check the address, routes and firewall",
    ),
    sign(
        "AddrNotAvailable",
        FailureClass::Refused,
        "no local port is free for it, or the address is not one of a host",
    ),
];

/// What the library says of a connection that it has given up.
const LOST: [&str; 5] = [
    "Client is not initialized.",
    "Failed to send command to router.",
    "Failed to route command.",
    "Missing expected connection.",
    "channel closed",
];

/// Characters of a server's text that are shown.
const LONGEST: usize = 240;

#[cfg(test)]
#[path = "tests/diagnosis.rs"]
mod tests;
