//! Who may change something over the admin listener.
//!
//! Until a token is set: whoever asks from this machine. With one: whoever brings it, from wherever.
//! A web page may never: a browser says whose page it calls for (`Origin`), and does not send
//! `X-Requested-With` or `Authorization` to another site without asking first.

use std::fmt;
use std::path::{Path, PathBuf};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::AdminState;
use crate::event::AdminRefusal;
use crate::model::Peer;

/// The secret of those who may change something. Only its hash is kept, and that is not shown.
#[derive(Clone)]
pub struct Token(blake3::Hash);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file without a secret in it: everybody would know it.
    #[error("the token file {} is empty (put a long random text into it)", .0.display())]
    Empty(PathBuf),
    /// No such file, or no right to read it.
    #[error("cannot read the token file {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
}

impl Token {
    /// The token that is `secret`, spaces and line ends around it aside. None if nothing is left.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        match secret.trim_ascii() {
            [] => None,
            secret => Some(Self(blake3::hash(secret))),
        }
    }

    /// The token that `path` holds now.
    ///
    /// # Errors
    /// If the file cannot be read, or holds nothing.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let secret = std::fs::read(path).map_err(|source| TokenError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::new(&secret).ok_or_else(|| TokenError::Empty(path.to_owned()))
    }

    /// Takes the same time wherever a wrong secret differs: hashes are compared, in constant time.
    fn is(&self, secret: &[u8]) -> bool {
        Self::new(secret).is_some_and(|other| self.0 == other.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Somebody who may change something: a handler that takes one is called for nobody else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permitted(pub(super) Peer);

impl FromRequestParts<AdminState> for Permitted {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Denial> {
        // Not from the operating system: then nobody knows who asks.
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        let peer = peer.map(|&ConnectInfo(peer)| peer);
        let permitted = match peer {
            Some(from) => permit(state.token.as_ref(), from, &parts.headers).map(|()| Self(from)),
            None => Err(AdminRefusal::Remote),
        };
        permitted.map_err(|reason| {
            state.refuse(reason, peer);
            Denial(reason)
        })
    }
}

/// The response to a request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denial(pub(super) AdminRefusal);

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            AdminRefusal::Browser => {
                "web pages may not change anything here (the request has an Origin header); ask with \
                 `tollgate`, curl or the like"
            }
            AdminRefusal::CrossSite => {
                "to change something, send the header X-Requested-With with any value (curl: -H \
                 'X-Requested-With: curl'), or a token: web pages of other sites cannot"
            }
            AdminRefusal::Host => {
                "the Host header has a name that this listener does not serve; ask by address or localhost, \
                 or add the name to the setting admin.allowed_hosts"
            }
            AdminRefusal::NoToken => {
                "a token is needed to change anything: send `Authorization: Bearer TOKEN` with what the \
                 file of the setting admin.token_file holds (`tollgate reset` reads it with --token-file \
                 FILE)"
            }
            AdminRefusal::Remote => {
                "only callers on this machine may change anything as long as no token is set: ask over \
                 loopback or a unix socket, or set admin.token_file and bring the token"
            }
            AdminRefusal::WrongToken => {
                "the token is not what the file of the setting admin.token_file held at the start"
            }
        })
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let body = format!("{self}\n");
        match self.0 {
            AdminRefusal::Browser
            | AdminRefusal::CrossSite
            | AdminRefusal::Host
            | AdminRefusal::Remote => (StatusCode::FORBIDDEN, body).into_response(),
            AdminRefusal::NoToken | AdminRefusal::WrongToken => {
                let scheme = [(WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, scheme, body).into_response()
            }
        }
    }
}

fn permit(token: Option<&Token>, peer: Peer, headers: &HeaderMap) -> Result<(), AdminRefusal> {
    if headers.contains_key(ORIGIN) {
        return Err(AdminRefusal::Browser);
    }
    match (token, bearer(headers)) {
        (None, _) if !peer.is_local() => Err(AdminRefusal::Remote),
        (None, None) if !headers.contains_key(X_REQUESTED_WITH) => Err(AdminRefusal::CrossSite),
        (None, _) => Ok(()),
        (Some(token), Some(secret)) if token.is(secret) => Ok(()),
        (Some(_), Some(_)) => Err(AdminRefusal::WrongToken),
        (Some(_), None) => Err(AdminRefusal::NoToken),
    }
}

/// What `Authorization: Bearer ...` brings.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, secret) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(secret)
}

const SCHEME: &[u8] = b"Bearer ";

/// A browser asks the server before it sends this to another site, and is not answered.
const X_REQUESTED_WITH: &str = "x-requested-with";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn local() -> Peer {
        Peer::Tcp("127.0.0.1:5000".parse().unwrap())
    }

    fn remote() -> Peer {
        Peer::Tcp("10.0.0.7:5000".parse().unwrap())
    }

    #[test]
    fn without_a_token_only_this_machine_may() {
        for peer in [local(), Peer::Unix] {
            let refused = permit(None, peer, &HeaderMap::new());
            assert_eq!(refused, Err(AdminRefusal::CrossSite));
            let by_tool = headers(&[("x-requested-with", "curl")]);
            assert_eq!(permit(None, peer, &by_tool), Ok(()));
        }
        let refused = permit(None, remote(), &HeaderMap::new());
        assert_eq!(refused, Err(AdminRefusal::Remote));
        // A token that nobody set helps nobody.
        let brought = headers(&[("authorization", "Bearer ")]);
        assert_eq!(permit(None, remote(), &brought), Err(AdminRefusal::Remote));
    }

    #[test]
    fn with_a_token_whoever_brings_it_may() {
        let token = Token::new(b" s3cret\n");
        for peer in [local(), remote(), Peer::Unix] {
            let ask = |pairs: &[(&'static str, &'static str)]| {
                permit(token.as_ref(), peer, &headers(pairs))
            };
            assert_eq!(ask(&[("authorization", "Bearer s3cret")]), Ok(()));
            assert_eq!(ask(&[("authorization", "bearer  s3cret ")]), Ok(()));
            assert_eq!(ask(&[]), Err(AdminRefusal::NoToken));
            assert_eq!(
                ask(&[("authorization", "Basic s3cret")]),
                Err(AdminRefusal::NoToken)
            );
            for wrong in ["Bearer s3cre", "Bearer s3crett", "Bearer S3CRET", "Bearer "] {
                assert_eq!(
                    ask(&[("authorization", wrong)]),
                    Err(AdminRefusal::WrongToken)
                );
            }
        }
    }

    #[test]
    fn a_web_page_may_not_even_from_this_machine() {
        let page = headers(&[("origin", "http://127.0.0.1:6070")]);
        assert_eq!(permit(None, local(), &page), Err(AdminRefusal::Browser));
        let page = headers(&[("origin", "null"), ("authorization", "Bearer s3cret")]);
        let token = Token::new(b"s3cret");
        assert_eq!(
            permit(token.as_ref(), local(), &page),
            Err(AdminRefusal::Browser)
        );
    }

    #[test]
    fn a_token_is_read_trimmed_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        let token = Token::read(&path).unwrap();
        assert!(token.is(b"s3cret"));
        assert_eq!(format!("{token:?}"), "Token(..)");
        std::fs::write(&path, " \n").unwrap();
        let empty = Token::read(&path).unwrap_err().to_string();
        assert!(empty.contains("is empty"), "{empty}");
        let gone = Token::read(&folder.path().join("gone")).unwrap_err();
        assert!(gone.to_string().contains("cannot read"), "{gone}");
    }
}
