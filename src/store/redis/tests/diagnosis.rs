//! What servers say, each class by the words of the three that are supported, and of some that are
//! not there to be asked.

use super::*;

fn place() -> Place {
    Place::tcp("h", 6379)
}

#[test]
fn what_a_server_says_has_a_class() {
    for (text, class) in SAID {
        let failure = answered(&place(), text);
        assert_eq!(failure.class, class, "{text}");
        assert_eq!(failure.redirect, None);
        let line = failure.to_string();
        assert!(line.starts_with("h:6379 says"), "{line}");
        assert!(!line.contains('\n'));
    }
}

#[test]
fn a_redirect_says_where() {
    for (text, slot, to, ask) in [
        (
            "MOVED 3999 10.0.0.1:6381",
            3999,
            Place::tcp("10.0.0.1", 6381),
            false,
        ),
        ("ASK 0 10.0.0.1:6381", 0, Place::tcp("10.0.0.1", 6381), true),
        ("MOVED 1 ::1:6381", 1, Place::tcp("::1", 6381), false),
        ("MOVED 1 [::1]:6381", 1, Place::tcp("::1", 6381), false),
        // A node that does not know its own address or name.
        ("MOVED 1 :6381", 1, Place::tcp("h", 6381), false),
        ("MOVED 1 ?:6381", 1, Place::tcp("h", 6381), false),
    ] {
        let failure = answered(&place(), text);
        let class = match ask {
            true => FailureClass::Ask,
            false => FailureClass::Moved,
        };
        assert_eq!(failure.class, class, "{text}");
        assert_eq!(failure.redirect, Some(Redirect { slot, to, ask }), "{text}");
    }
    for text in [
        "MOVED",
        "MOVED x y:1",
        "MOVED 1 nowhere",
        "MOVED 1 h:port",
        "ASK 99999 h:1",
    ] {
        assert_eq!(answered(&place(), text).redirect, None, "{text}");
    }
}

#[test]
fn what_the_server_repeats_is_not_shown() {
    for text in [
        "ERR unknown command `AUTH`, with args beginning with: `ann` `s3cret` ",
        "ERR unknown command 'HELLO', with args beginning with: '2' 's3cret'",
        "ERR unknown subcommand with args: s3cret",
    ] {
        let failure = answered(&place(), text);
        assert_eq!(failure.class, FailureClass::MisConfigured, "{failure}");
        assert!(!failure.detail.contains("s3cret"), "{failure}");
    }
    let long = answered(&place(), &"a\r\n".repeat(10_000)).to_string();
    assert!(long.len() < 1000 && !long.contains(['\r', '\n']), "{long}");
}

#[test]
fn what_the_system_says_has_a_class_and_is_unwrapped() {
    use FailureClass as Class;
    for (text, class, shown) in [
        (
            "Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }",
            Class::Refused,
            "(Connection refused)",
        ),
        (
            "Custom { kind: Uncategorized, error: \"failed to lookup address information: Name or \
             service not known\" }",
            Class::Refused,
            "does not resolve",
        ),
        (
            "Os { code: 113, kind: HostUnreachable, message: \"No route to host\" }",
            Class::Refused,
            "(No route to host)",
        ),
        (
            "Os { code: 104, kind: ConnectionReset, message: \"Connection reset by peer\" }",
            Class::Reset,
            "lost: Connection reset by peer",
        ),
        (
            "Connection closed.",
            Class::Reset,
            "lost: Connection closed",
        ),
        (
            "Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }",
            Class::Tls,
            "(InvalidCertificate(UnknownIssuer))",
        ),
        (
            "Custom { kind: InvalidData, error: InvalidCertificate(Revoked) }",
            Class::Tls,
            "not accepted",
        ),
        (
            "Custom { kind: InvalidData, error: InvalidMessage(InvalidContentType) }",
            Class::Tls,
            "does not speak TLS",
        ),
    ] {
        let failure = failed(&place(), &Error::new(ErrorKind::IO, text));
        assert_eq!(failure.class, class, "{text}");
        assert!(failure.detail.contains(shown), "{failure}");
        assert!(!failure.detail.contains("kind:"), "{failure}");
    }
}

#[test]
fn what_the_library_says_has_a_class() {
    use FailureClass as Class;
    for (kind, text, class) in [
        (ErrorKind::Timeout, "Request timed out.", Class::Timeout),
        (ErrorKind::Canceled, "", Class::Reset),
        (
            ErrorKind::Unknown,
            "Client is not initialized.",
            Class::Reset,
        ),
        (ErrorKind::Protocol, "Invalid frame", Class::Protocol),
        (
            ErrorKind::Unknown,
            "NOSCRIPT No matching script.",
            Class::NoScript,
        ),
    ] {
        let failure = failed(&place(), &Error::new(kind, text));
        assert_eq!(failure.class, class, "{text}");
    }
}

const SAID: [(&str, FailureClass); 29] = [
    (
        "NOSCRIPT No matching script. Please use EVAL.",
        FailureClass::NoScript,
    ),
    (
        "READONLY You can't write against a read only replica.",
        FailureClass::ReadOnly,
    ),
    (
        "ERR Error running script (call to f_d1a2): @user_script:12: @user_script: 12: \
             -READONLY You can't write against a read only replica.",
        FailureClass::ReadOnly,
    ),
    (
        "READONLY You can't write against a read only replica. script: d1a2, on \
             @user_script:12.",
        FailureClass::ReadOnly,
    ),
    (
        "LOADING Redis is loading the dataset in memory",
        FailureClass::Loading,
    ),
    (
        "TRYAGAIN Multiple keys request during rehashing of slot",
        FailureClass::TryAgain,
    ),
    (
        "CLUSTERDOWN Hash slot not served",
        FailureClass::ClusterDown,
    ),
    (
        "CROSSSLOT Keys in request don't hash to the same slot",
        FailureClass::CrossSlot,
    ),
    (
        "ERR Script attempted to access a non local key in a cluster node",
        FailureClass::CrossSlot,
    ),
    (
        "OOM command not allowed when used memory > 'maxmemory'.",
        FailureClass::OutOfMemory,
    ),
    (
        "ERR Error running script (call to f_d1a2): @user_script:1: @user_script: 1: -OOM \
             command not allowed when used memory > 'maxmemory'.",
        FailureClass::OutOfMemory,
    ),
    ("NOAUTH Authentication required.", FailureClass::Auth),
    (
        "WRONGPASS invalid username-password pair or user is disabled.",
        FailureClass::Auth,
    ),
    ("ERR invalid password", FailureClass::Auth),
    (
        "DENIED Redis is running in protected mode because",
        FailureClass::Auth,
    ),
    (
        "NOPERM this user has no permissions to run the 'info' command or its subcommand",
        FailureClass::NoPermission,
    ),
    (
        "ERR The user executing the script can't run this command or subcommand",
        FailureClass::NoPermission,
    ),
    (
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        FailureClass::MasterDown,
    ),
    (
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN \
             NOSAVE.",
        FailureClass::Busy,
    ),
    (
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
             persist to disk.",
        FailureClass::MisConfigured,
    ),
    (
        "NOREPLICAS Not enough good replicas to write.",
        FailureClass::MisConfigured,
    ),
    ("ERR max number of clients reached", FailureClass::Refused),
    ("ERR DB index is out of range", FailureClass::MisConfigured),
    (
        "ERR SELECT is not allowed in cluster mode",
        FailureClass::MisConfigured,
    ),
    (
        "ERR This instance has cluster support disabled",
        FailureClass::MisConfigured,
    ),
    ("ERR unknown command 'EVALSHA'", FailureClass::MisConfigured),
    ("ERR something new", FailureClass::Other),
    ("", FailureClass::Other),
    // A word only where it stands alone.
    (
        "ERR no command ROOM, XREADONLY or UNLOADING",
        FailureClass::Other,
    ),
];
