//! One server.

use super::server::{Recipe, Server};
use super::tls::Certificates;
use super::wire::Login;
use super::{Flavour, Topology};

/// One server, open to everybody unless it was started [`Single::with`] more.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) server: Server,
    pub(crate) certificates: Option<Certificates>,
    access: Access,
}

/// Who may do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    #[default]
    Open,
    /// The `default` user has [`PASSWORD`].
    Password,
    /// Nobody but [`USER`], with [`PASSWORD`], and only [`COMMANDS`] on its own keys.
    User,
}

/// What differs from a server as it comes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) flavour: Flavour,
    pub(crate) access: Access,
    /// 1 MB, of which nothing is evicted: writes fail soon.
    pub(crate) small: bool,
    /// TLS on the TCP port, client certificates included.
    pub(crate) tls: bool,
}

impl Single {
    pub(crate) async fn start(flavour: Flavour) -> Self {
        Self::with(Options {
            flavour,
            ..Options::default()
        })
        .await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let certificates = options.tls.then(Certificates::new);
        let mut recipe = Recipe {
            flavour: options.flavour,
            tls: certificates.clone(),
            login: options.access.tests_login(),
            ..Recipe::default()
        };
        recipe.lines.extend(options.access.configuration());
        if options.small {
            let lines = ["maxmemory 1mb", "maxmemory-policy noeviction"];
            recipe.lines.extend(lines.map(str::to_owned));
        }
        Self {
            server: Server::start(recipe).await,
            certificates,
            access: options.access,
        }
    }

    /// The same server by its unix socket.
    pub(crate) fn unix_url(&self) -> String {
        let (login, socket) = (self.access.in_url(), self.server.socket());
        format!("redis+unix://{login}{}", socket.display())
    }
}

impl Topology for Single {
    fn url(&self) -> String {
        let scheme = if self.certificates.is_some() {
            "rediss"
        } else {
            "redis"
        };
        format!(
            "{scheme}://{}{}/0",
            self.access.in_url(),
            self.server.addr()
        )
    }

    fn stores(&self) -> Vec<&Server> {
        vec![&self.server]
    }
}

impl Access {
    fn tests_login(self) -> Option<Login> {
        let login = |user| Login {
            user,
            password: PASSWORD,
        };
        match self {
            Self::Open => None,
            Self::Password => Some(login("default")),
            Self::User => Some(login("admin")),
        }
    }

    fn in_url(self) -> String {
        match self {
            Self::Open => String::new(),
            Self::Password => format!(":{PASSWORD}@"),
            Self::User => format!("{USER}:{PASSWORD}@"),
        }
    }

    fn configuration(self) -> Vec<String> {
        match self {
            Self::Open => vec![],
            Self::Password => vec![format!("requirepass {PASSWORD}")],
            Self::User => vec![
                "user default off".into(),
                format!("user admin on >{PASSWORD} ~* &* +@all"),
                format!("user {USER} on >{PASSWORD} {COMMANDS}"),
            ],
        }
    }
}

pub(crate) const USER: &str = "tollgate";
pub(crate) const PASSWORD: &str = "correct-horse";

/// What Tollgate may do: log in and look around, run its scripts, and what they do with its keys.
/// As `ACL SETUSER` takes it.
pub(crate) const COMMANDS: &str = "resetchannels ~tollgate:* -@all \
    +client|id +select +info +cluster|slots +cluster|info +asking +script|load +evalsha +time \
    +mget +set +unlink +pttl +pexpire +hset +hgetall +hdel +hincrby \
    +zadd +zcard +zcount +zrange +zrangebyscore +zrevrangebyscore \
    +zrem +zremrangebyrank +zremrangebyscore +xadd +xrevrange";
