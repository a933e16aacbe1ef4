//! Where Redis is, as operators write it: a URL.
//!
//! ```text
//! redis://[[user]:password@]host[:6379][/database]                  rediss:// with TLS
//! redis+unix://[[user]:password@]/path/to/redis.sock[?db=1]
//! redis-cluster://h1:7000?node=h2:7000&node=h3:7000                 rediss-cluster:// with TLS
//! redis-sentinel://s1:26379[/database]?node=s2:26379&sentinelServiceName=mymaster
//!     [&sentinelUsername=user][&sentinelPassword=password]          rediss-sentinel:// with TLS
//! ```
//!
//! `valkey` may stand for `redis`. What is not understood is refused; no error repeats any part of
//! the text that could be a piece of a password with a `/`, `?`, `#` or `@` in it.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::secret::HIDDEN;
use super::{Place, Secret};

/// Where Redis is. Shows as a URL without passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which servers, and how they work together.
    pub topology: Topology,
    /// Speak TLS.
    pub tls: bool,
    /// The ACL user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Number of the database; 0 in a cluster.
    pub database: u16,
}

/// Which servers, and how they work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(Place),
    /// Some nodes of a cluster, which know the others; never empty.
    Cluster(Vec<Place>),
    /// Whoever is the primary.
    Sentinel {
        /// By what name the sentinels know it.
        service: String,
        /// Some sentinels, which know the others; never empty.
        sentinels: Vec<Place>,
        /// ACL user at the sentinels; the servers' user is not used there.
        username: Option<String>,
        /// Password at the sentinels; the servers' password is not used there.
        password: Option<Secret>,
    },
}

/// A text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `://`.
    #[error("a Redis URL starts with its scheme, as in redis://127.0.0.1:6379/0")]
    NoScheme,
    /// A scheme of something else.
    #[error(
        "{0}:// is not a scheme of Redis: use redis://, rediss:// (TLS), redis-cluster://, \
         redis-sentinel:// or redis+unix://, as in redis://127.0.0.1:6379/0"
    )]
    Scheme(String),
    /// TLS over a unix socket.
    #[error("a unix socket has no TLS: use redis+unix:///run/redis.sock")]
    UnixTls,
    /// No host, or no socket.
    #[error("{NO_HOST}")]
    NoHost,
    /// No name and no address.
    #[error(
        "the host is neither a name nor an address: an IPv6 address stands in brackets, as in \
         redis://[::1]:6379"
    )]
    Host,
    /// Several hosts.
    #[error(
        "a Redis URL names one host: more nodes or sentinels follow as parameters, as in \
         redis-cluster://10.0.0.1:6379?node=10.0.0.2:6379, and servers to fail over to have a \
         setting of their own (failover_urls)"
    )]
    Hosts,
    /// No port.
    #[error("the port is not a number from 1 to 65535, as in redis://127.0.0.1:6379")]
    Port,
    /// No number of a database.
    #[error("the database is not a number from 0 to 65535, as in redis://127.0.0.1:6379/1")]
    Database,
    /// A cluster has one.
    #[error(
        "a cluster has database 0 only: leave it out, as in \
         redis-cluster://10.0.0.1:6379?node=10.0.0.2:6379"
    )]
    ClusterDatabase,
    /// Not all sentinels watch one service only.
    #[error(
        "the sentinels' name for the primary is missing, as in \
         redis-sentinel://10.0.0.1:26379?sentinelServiceName=mymaster"
    )]
    NoService,
    /// A parameter that would do nothing.
    #[error("{known} has no parameter {name}: use {example}")]
    Parameter {
        /// Its name in quotes, or other words for it.
        name: String,
        /// The scheme.
        known: &'static str,
        /// One with all parameters: of the scheme that has the parameter, or else of this one.
        example: &'static str,
    },
    /// A parameter that can be given once only.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// Something behind `#`.
    #[error("a Redis URL has no # (in a password it is written %23)")]
    Fragment,
    /// Text that cannot be in a URL.
    #[error("a Redis URL has no spaces or control characters (in a password a space is %20)")]
    Character,
    /// `%` without two hexadecimal digits, or bytes that are no text.
    #[error("a % stands for itself or for no text (in a password it is written %25)")]
    Escape,
    /// Most likely a password that is not escaped.
    #[error(
        "there is an @ behind the host: in a password / is written %2F, ? %3F, # %23, @ %40 and % \
         %25, as in redis://:p%40ss@127.0.0.1:6379"
    )]
    Unescaped,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(AddressError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::NoScheme)?;
        if rest.contains('#') {
            return Err(AddressError::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parts = Parts {
            authority,
            path,
            query,
        };
        // A part of the password may have been taken for anything.
        address(scheme, &parts).map_err(|error| match rest.contains('@') {
            true => AddressError::Unescaped,
            false => error,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, places): (Kind, &[Place]) = match &self.topology {
            Topology::Single(Place::Unix(path)) => return self.show_unix(f, path),
            Topology::Single(place) => (Kind::Single, std::slice::from_ref(place)),
            Topology::Cluster(places) => (Kind::Cluster, places),
            Topology::Sentinel { sentinels, .. } => (Kind::Sentinel, sentinels),
        };
        write!(
            f,
            "redis{}{}://",
            if self.tls { "s" } else { "" },
            kind.suffix()
        )?;
        self.show_credentials(f)?;
        let mut places = places.iter();
        if let Some(first) = places.next() {
            write!(f, "{first}")?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        let mut query: Vec<String> = places.map(|place| format!("node={place}")).collect();
        if let Topology::Sentinel {
            service,
            username,
            password,
            ..
        } = &self.topology
        {
            query.push(format!("{SERVICE}={}", escaped(service)));
            query.extend(
                username
                    .iter()
                    .map(|user| format!("{USER}={}", escaped(user))),
            );
            query.extend(password.iter().map(|_| format!("{PASSWORD}={HIDDEN}")));
        }
        let mark = if query.is_empty() { "" } else { "?" };
        write!(f, "{mark}{}", query.join("&"))
    }
}

impl Address {
    fn show_unix(&self, f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        f.write_str("redis+unix://")?;
        self.show_credentials(f)?;
        write!(f, "{}", path.display())?;
        match self.database {
            0 => Ok(()),
            number => write!(f, "?db={number}"),
        }
    }

    fn show_credentials(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.username.as_deref().map(escaped).unwrap_or_default();
        match (&self.username, &self.password) {
            (None, None) => Ok(()),
            (Some(_), None) => write!(f, "{user}@"),
            (_, Some(_)) => write!(f, "{user}:{HIDDEN}@"),
        }
    }
}

/// A URL behind its scheme, cut but not decoded.
struct Parts<'a> {
    authority: &'a str,
    path: &'a str,
    query: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Cluster,
    Sentinel,
    Unix,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Single, Self::Cluster, Self::Sentinel, Self::Unix];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Single => "",
            Self::Cluster => "-cluster",
            Self::Sentinel => "-sentinel",
            Self::Unix => "+unix",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Single | Self::Cluster | Self::Unix => 6379,
            Self::Sentinel => 26379,
        }
    }

    /// The scheme, and a URL with all parameters that there are.
    const fn example(self) -> (&'static str, &'static str) {
        match self {
            Self::Single => ("redis://", "redis://127.0.0.1:6379/0"),
            Self::Cluster => (
                "redis-cluster://",
                "redis-cluster://10.0.0.1:6379?node=10.0.0.2:6379",
            ),
            Self::Sentinel => (
                "redis-sentinel://",
                "redis-sentinel://10.0.0.1:26379?node=10.0.0.2:26379&sentinelServiceName=mymaster\
                 &sentinelUsername=USER&sentinelPassword=PASSWORD",
            ),
            Self::Unix => ("redis+unix://", "redis+unix:///run/redis.sock?db=0"),
        }
    }

    /// The only kind that has a parameter, if there is one: most likely it was meant.
    fn of_parameter(name: &str) -> Option<Self> {
        [SERVICE, USER, PASSWORD]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
            .then_some(Self::Sentinel)
    }
}

/// What parameters say.
#[derive(Default)]
struct Parameters {
    nodes: Vec<Place>,
    database: Option<u16>,
    service: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

fn address(scheme: &str, parts: &Parts<'_>) -> Result<Address, AddressError> {
    let (kind, tls) = read_scheme(scheme)?;
    let (user, host) = match parts.authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", parts.authority),
    };
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    let parameters = parameters(kind, parts.query)?;
    let (topology, database) = match kind {
        Kind::Unix => {
            let path = decoded(parts.path)?;
            if !host.is_empty() || path.len() < 2 {
                return Err(AddressError::NoHost);
            }
            let place = Place::Unix(PathBuf::from(path));
            (Topology::Single(place), parameters.database)
        }
        Kind::Single | Kind::Cluster | Kind::Sentinel => {
            let first = place(host, kind)?;
            let number = database(parts.path.strip_prefix('/').unwrap_or_default())?;
            (topology(kind, first, parameters)?, number)
        }
    };
    if kind == Kind::Cluster && database.is_some_and(|number| number != 0) {
        return Err(AddressError::ClusterDatabase);
    }
    Ok(Address {
        topology,
        tls,
        username: some(decoded(username)?),
        password: some(decoded(password)?).map(Secret::new),
        database: database.unwrap_or(0),
    })
}

fn topology(kind: Kind, first: Place, parameters: Parameters) -> Result<Topology, AddressError> {
    let mut places = vec![first];
    for node in parameters.nodes {
        if !places.contains(&node) {
            places.push(node);
        }
    }
    Ok(match kind {
        Kind::Single | Kind::Unix => Topology::Single(places.swap_remove(0)),
        Kind::Cluster => Topology::Cluster(places),
        Kind::Sentinel => Topology::Sentinel {
            service: parameters.service.ok_or(AddressError::NoService)?,
            sentinels: places,
            username: parameters.username,
            password: parameters.password.map(Secret::new),
        },
    })
}

fn read_scheme(scheme: &str) -> Result<(Kind, bool), AddressError> {
    let lower = scheme.to_ascii_lowercase();
    let rest = lower
        .strip_prefix("redis")
        .or_else(|| lower.strip_prefix("valkey"));
    let (tls, suffix) = match rest {
        Some(rest) => match rest.strip_prefix('s') {
            Some(suffix) => (true, Some(suffix)),
            None => (false, Some(rest)),
        },
        None => (false, None),
    };
    match Kind::ALL
        .into_iter()
        .find(|kind| Some(kind.suffix()) == suffix)
    {
        Some(Kind::Unix) if tls => Err(AddressError::UnixTls),
        Some(kind) => Ok((kind, tls)),
        None => {
            let plain = |c: char| c.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&c);
            match !scheme.is_empty() && scheme.chars().all(plain) {
                true => Err(AddressError::Scheme(lower)),
                false => Err(AddressError::NoScheme),
            }
        }
    }
}

fn parameters(kind: Kind, query: &str) -> Result<Parameters, AddressError> {
    let mut read = Parameters::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value)?;
        match (kind, name) {
            (Kind::Cluster | Kind::Sentinel, "node") => read.nodes.push(place(&value, kind)?),
            (Kind::Unix, "db") => {
                once(
                    &mut read.database,
                    database(&value)?.ok_or(AddressError::Database)?,
                    "db",
                )?;
            }
            (Kind::Sentinel, SERVICE) if value.is_empty() => return Err(AddressError::NoService),
            (Kind::Sentinel, SERVICE) => once(&mut read.service, value, SERVICE)?,
            (Kind::Sentinel, USER) => once(&mut read.username, value, USER)?,
            (Kind::Sentinel, PASSWORD) => once(&mut read.password, value, PASSWORD)?,
            (_, _) => {
                let (known, _) = kind.example();
                let (_, example) = Kind::of_parameter(name).unwrap_or(kind).example();
                return Err(AddressError::Parameter {
                    // What is no word may be the rest of a password with a ? in it.
                    name: match name.chars().all(|c| c.is_ascii_alphabetic()) {
                        true => format!("`{name}`"),
                        false => "of that name".to_owned(),
                    },
                    known,
                    example,
                });
            }
        }
    }
    Ok(read)
}

fn once<T>(into: &mut Option<T>, value: T, name: &'static str) -> Result<(), AddressError> {
    match into.replace(value) {
        None => Ok(()),
        Some(_) => Err(AddressError::Twice(name)),
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn place(text: &str, kind: Kind) -> Result<Place, AddressError> {
    if text.contains(',') {
        return Err(AddressError::Hosts);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(AddressError::Host)?;
            let _address: Ipv6Addr = host.parse().map_err(|_no_v6| AddressError::Host)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(AddressError::Host),
            }
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            if host.is_empty() {
                return Err(AddressError::NoHost);
            }
            let named = |c: char| c.is_ascii_alphanumeric() || ['-', '.', '_'].contains(&c);
            if !host.chars().all(named) || port.is_some_and(|port| port.contains(':')) {
                return Err(AddressError::Host);
            }
            (host, port)
        }
    };
    let port = match port {
        Some(digits) => match number(digits) {
            Some(port) if port != 0 => port,
            _ => return Err(AddressError::Port),
        },
        None => kind.default_port(),
    };
    Ok(Place::tcp(host, port))
}

/// None if it is not given.
fn database(text: &str) -> Result<Option<u16>, AddressError> {
    match text {
        "" => Ok(None),
        text => number(text).map(Some).ok_or(AddressError::Database),
    }
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let mut escapes = text.split('%').skip(1);
    let hexadecimal = |rest: &str| {
        let mut digits = rest.chars();
        let mut digit = || digits.next().is_some_and(|c| c.is_ascii_hexdigit());
        digit() && digit()
    };
    if !escapes.all(hexadecimal) {
        return Err(AddressError::Escape);
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_not_utf8) => Err(AddressError::Escape),
    }
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

const SERVICE: &str = "sentinelServiceName";
const USER: &str = "sentinelUsername";
const PASSWORD: &str = "sentinelPassword";

const NO_HOST: &str = "the host is missing, as in redis://127.0.0.1:6379 or \
                       redis+unix:///run/redis.sock";

/// All but what RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
#[path = "tests/address.rs"]
mod tests;
