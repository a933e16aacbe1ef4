//! Requests that the admin listener refuses.

/// Why the admin listener refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdminRefusal {
    /// It comes from a web page: it has an `Origin`.
    Browser,
    /// It has no header that a web page of another site cannot send.
    CrossSite,
    /// Its `Host` is a name that is not served.
    Host,
    /// It needs a token and has none.
    NoToken,
    /// It comes from another machine, and there is no token.
    Remote,
    /// Its token is wrong.
    WrongToken,
}

impl AdminRefusal {
    /// Every reason, in the order of [`AdminRefusal::index`].
    pub const ALL: [Self; 6] = [
        Self::Browser,
        Self::CrossSite,
        Self::Host,
        Self::NoToken,
        Self::Remote,
        Self::WrongToken,
    ];

    /// The label that metrics have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::CrossSite => "cross_site",
            Self::Host => "host",
            Self::NoToken => "no_token",
            Self::Remote => "remote",
            Self::WrongToken => "wrong_token",
        }
    }

    /// Its index in [`AdminRefusal::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Browser => 0,
            Self::CrossSite => 1,
            Self::Host => 2,
            Self::NoToken => 3,
            Self::Remote => 4,
            Self::WrongToken => 5,
        }
    }
}
