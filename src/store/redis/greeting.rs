//! Who is at the other end: what `INFO` says.
//!
//! `INFO` alone tells version, mode, role and how memory is limited, on servers of any vendor, so
//! that a user needs no right to `ROLE` or `CONFIG`, which managed servers do not give.

use std::collections::HashMap;
use std::fmt;

use super::{Failure, FailureClass, Place, Reply, diagnosis};

/// Who is at the other end. Shows as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Name and version: `Redis 7.0.15`, `Valkey 9.1.2`.
    pub server: String,
    /// The version of Redis that it is, or behaves as.
    pub version: (u16, u16, u16),
    /// Alone or in company.
    pub mode: Mode,
    /// Whether it writes.
    pub role: Role,
    /// It still reads its data, and answers nothing else.
    pub loading: bool,
    /// What will not stop Tollgate, but should be put right; a sentence each.
    pub warnings: Vec<String>,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server, mode, role, ..
        } = self;
        write!(f, "{server}, {mode}, {role}")
    }
}

/// How servers work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Alone, or with replicas.
    Standalone,
    /// A node of a cluster.
    Cluster,
    /// Not a server of data: it knows who is the primary.
    Sentinel,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
        })
    }
}

/// What a server does for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It writes.
    Primary,
    /// It follows another.
    Replica {
        /// Whom.
        of: Place,
    },
    /// It watches others.
    Sentinel,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Replica { of } => write!(f, "replica of {of}"),
            Self::Sentinel => f.write_str("sentinel"),
        }
    }
}

/// Reads the answer to `INFO`.
pub(super) fn read(place: &Place, reply: &Reply) -> Result<Reached, Failure> {
    let text = reply
        .text()
        .ok_or_else(|| diagnosis::garbage(place, "INFO gives no text"))?;
    let info: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .collect();
    let is = |name: &str, value: &str| info.get(name) == Some(&value);
    let version = info
        .get("redis_version")
        .copied()
        .and_then(version)
        .ok_or_else(|| diagnosis::garbage(place, "INFO names no redis_version"))?;
    let server = match info.get("valkey_version") {
        Some(version) => format!("Valkey {}", diagnosis::cleaned(version)),
        None => format!("Redis {}.{}.{}", version.0, version.1, version.2),
    };
    if (version.0, version.1) < OLDEST {
        let (major, minor) = OLDEST;
        let detail = format!(
            "{place} is {server}, and Tollgate needs Redis {major}.{minor} or newer, or Valkey"
        );
        return Err(Failure::new(FailureClass::MisConfigured, detail));
    }
    // Valkey's name for it, then Redis'.
    let mode = match info.get("server_mode").or_else(|| info.get("redis_mode")) {
        Some(&"sentinel") => Mode::Sentinel,
        Some(&"cluster") => Mode::Cluster,
        _ => Mode::Standalone,
    };
    let role = match (mode, info.get("role")) {
        (Mode::Sentinel, _) => Role::Sentinel,
        (_, Some(&"slave" | &"replica")) => Role::Replica {
            of: primary(place, &info)?,
        },
        (_, Some(&"master" | &"primary")) => Role::Primary,
        (_, _) => return Err(diagnosis::garbage(place, "INFO names no role")),
    };
    Ok(Reached {
        server,
        version,
        mode,
        role,
        loading: is("loading", "1"),
        warnings: warnings(place, &info),
    })
}

fn primary(place: &Place, info: &HashMap<&str, &str>) -> Result<Place, Failure> {
    let port = info.get("master_port").and_then(|port| port.parse().ok());
    match (info.get("master_host"), port) {
        (Some(host), Some(port)) => Ok(Place::tcp(diagnosis::cleaned(host), port)),
        _ => Err(diagnosis::garbage(
            place,
            "INFO of a replica names no primary",
        )),
    }
}

fn warnings(place: &Place, info: &HashMap<&str, &str>) -> Vec<String> {
    let limited = info.get("maxmemory").is_some_and(|&bytes| bytes != "0");
    match info.get("maxmemory_policy") {
        Some(&policy) if limited && policy != "noeviction" => vec![format!(
            "{place} has maxmemory-policy {}: keys may be evicted before they expire, and what was \
             counted in them is admitted again; set maxmemory-policy noeviction",
            diagnosis::cleaned(policy)
        )],
        _ => Vec::new(),
    }
}

/// `7.0.15`; what follows the third number is left out.
fn version(text: &str) -> Option<(u16, u16, u16)> {
    let mut parts = text.split('.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok())
    });
    let (major, minor) = (parts.next()??, parts.next()??);
    Some((major, minor, parts.next().flatten().unwrap_or(0)))
}

/// Earlier ones do not replicate scripts by their effects unless told to, so that a script could
/// not read the clock.
const OLDEST: (u16, u16) = (6, 2);

#[cfg(test)]
#[path = "tests/greeting.rs"]
mod tests;
