//! URLs that are read, and URLs that are refused without giving a password away.

use proptest::prelude::*;

use super::*;

fn tcp(host: &str, port: u16) -> Place {
    Place::tcp(host, port)
}

fn single(place: Place) -> Address {
    Address {
        topology: Topology::Single(place),
        tls: false,
        username: None,
        password: None,
        database: 0,
    }
}

fn sentinel(sentinels: Vec<Place>) -> Address {
    Address {
        topology: Topology::Sentinel {
            service: "mymaster".to_owned(),
            sentinels,
            username: None,
            password: None,
        },
        ..single(tcp("unused", 1))
    }
}

fn read(url: &str) -> Result<Address, AddressError> {
    url.parse()
}

#[test]
fn one_server_is_read() {
    let local = || tcp("127.0.0.1", 6379);
    let socket = || Place::Unix("/run/redis.sock".into());
    for (url, expected) in [
        ("redis://127.0.0.1:6379/0", single(local())),
        ("redis://127.0.0.1", single(local())),
        ("redis://127.0.0.1/", single(local())),
        ("REDIS://127.0.0.1", single(local())),
        ("valkey://127.0.0.1", single(local())),
        (
            "redis://my-redis_1.prod:7000",
            single(tcp("my-redis_1.prod", 7000)),
        ),
        ("redis://[::1]", single(tcp("::1", 6379))),
        (
            "redis://[2001:db8::7]:7000",
            single(tcp("2001:db8::7", 7000)),
        ),
        (
            "rediss://127.0.0.1/15",
            Address {
                tls: true,
                database: 15,
                ..single(local())
            },
        ),
        ("redis+unix:///run/redis.sock", single(socket())),
        (
            "valkey+unix://ann:s3cret@/run/redis.sock?db=3",
            Address {
                database: 3,
                username: Some("ann".to_owned()),
                password: Some(Secret::new("s3cret")),
                ..single(socket())
            },
        ),
        (
            "redis+unix:///run/my%20redis.sock",
            single(Place::Unix("/run/my redis.sock".into())),
        ),
    ] {
        assert_eq!(read(url), Ok(expected), "{url}");
    }
}

#[test]
fn a_user_and_a_password_are_read() {
    let local = || tcp("127.0.0.1", 6379);
    let user = |name: &str| Some(name.to_owned());
    let secret = |text: &str| Some(Secret::new(text));
    for (url, expected) in [
        (
            "valkeys://ann:s3cret@127.0.0.1/65535",
            Address {
                tls: true,
                database: 65535,
                username: user("ann"),
                password: secret("s3cret"),
                ..single(local())
            },
        ),
        (
            "redis://:p%40ss%2Fw%25%20%C3%A9%3a@127.0.0.1",
            Address {
                password: secret("p@ss/w% \u{e9}:"),
                ..single(local())
            },
        ),
        // As clients of any kind split it: the last @ ends, the first : parts.
        (
            "redis://ann:a@b:c@127.0.0.1",
            Address {
                username: user("ann"),
                password: secret("a@b:c"),
                ..single(local())
            },
        ),
        (
            "redis://ann@127.0.0.1",
            Address {
                username: user("ann"),
                ..single(local())
            },
        ),
    ] {
        assert_eq!(read(url), Ok(expected), "{url}");
    }
}

#[test]
fn many_servers_are_read() {
    let cluster = |places: Vec<Place>| Address {
        topology: Topology::Cluster(places),
        ..single(tcp("unused", 1))
    };
    for (url, expected) in [
        ("redis-cluster://h", cluster(vec![tcp("h", 6379)])),
        ("redis-cluster://h/0", cluster(vec![tcp("h", 6379)])),
        (
            "redis-cluster://h:7000?node=h2:7001&node=[::1]:7002&node=h:7000&node=h4",
            cluster(vec![
                tcp("h", 7000),
                tcp("h2", 7001),
                tcp("::1", 7002),
                tcp("h4", 6379),
            ]),
        ),
        (
            "rediss-cluster://h",
            Address {
                tls: true,
                ..cluster(vec![tcp("h", 6379)])
            },
        ),
        (
            "redis-sentinel://h?sentinelServiceName=mymaster",
            sentinel(vec![tcp("h", 26379)]),
        ),
        (
            "rediss-sentinel://h:1/2?node=h2&sentinelServiceName=mymaster&node=h3:3",
            Address {
                tls: true,
                database: 2,
                ..sentinel(vec![tcp("h", 1), tcp("h2", 26379), tcp("h3", 3)])
            },
        ),
        (
            "redis-sentinel://:data@h?sentinelServiceName=mymaster&sentinelUsername=eve\
             &sentinelPassword=watch%26+@",
            Address {
                password: Some(Secret::new("data")),
                topology: Topology::Sentinel {
                    service: "mymaster".to_owned(),
                    sentinels: vec![tcp("h", 26379)],
                    username: Some("eve".to_owned()),
                    password: Some(Secret::new("watch&+@")),
                },
                ..single(tcp("unused", 1))
            },
        ),
    ] {
        assert_eq!(read(url), Ok(expected), "{url}");
    }
}

#[test]
fn what_is_wrong_is_said_and_a_right_example_shown() {
    for (url, says, shows) in WRONG {
        let error = read(url).unwrap_err().to_string();
        assert!(error.contains(says), "{url}: {error}");
        assert!(error.contains(shows), "{url}: {error}");
    }
}

#[test]
fn an_address_shows_without_its_passwords_and_reads_back() {
    for (url, shown) in [
        ("redis://h", "redis://h:6379"),
        ("valkeys://ann:pw-12345@h:1/2", "rediss://ann:***@h:1/2"),
        ("redis://:pw-12345@[::1]", "redis://:***@[::1]:6379"),
        ("redis://a%40b@h", "redis://a%40b@h:6379"),
        (
            "redis+unix://:pw-12345@/s?db=1",
            "redis+unix://:***@/s?db=1",
        ),
        ("redis+unix:///s", "redis+unix:///s"),
        (
            "rediss-cluster://h:7000?node=h2:7001",
            "rediss-cluster://h:7000?node=h2:7001",
        ),
        (
            "redis-sentinel://:pw-12345@h/1?node=h2&sentinelServiceName=a%26b\
             &sentinelUsername=eve&sentinelPassword=pw-12345",
            "redis-sentinel://:***@h:26379/1?node=h2:26379&sentinelServiceName=a%26b\
             &sentinelUsername=eve&sentinelPassword=***",
        ),
    ] {
        let address = read(url).unwrap();
        assert_eq!(address.to_string(), shown, "{url}");
        assert!(!format!("{address:?}").contains("pw-12345"), "{url}");
        let again = read(&shown.replace("***", "pw-12345")).unwrap();
        assert_eq!(again, address, "{url}");
    }
}

/// What stands around a password, where a URL may be wrong.
fn frames() -> impl Strategy<Value = (String, String)> {
    let before = "(redis|rediss|valkey|http|)(-cluster|-sentinel|\\+unix|)(://|:|)[a-z]{0,3}:";
    let after = "@?[a-z\\[\\]:0-9%]{0,6}(/[0-9x/]{0,3})?(\\?(node|db|sentinelServiceName|x)=[a-z:@0-9]{0,4})?";
    (before, after)
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _either: Result<Address, AddressError> = read(&text);
    }

    #[test]
    fn any_text_like_a_url_is_read_or_refused(
        scheme in "(redis|rediss|valkey)(-cluster|-sentinel|\\+unix|)",
        rest in "[a-z0-9:@/?#&=%.\\[\\]-]{0,40}",
    ) {
        if let Ok(address) = read(&format!("{scheme}://{rest}")) {
            let shown = address.to_string();
            prop_assert!(shown.starts_with("redis"), "{shown}");
        }
    }

    /// Each run of letters in it is long enough not to stand in a message by chance.
    #[test]
    fn no_error_shows_a_piece_of_a_password(
        (before, after) in frames(),
        pieces in prop::collection::vec("[QXZJ]{4}[0-9]{2}", 1..4),
        joints in prop::collection::vec("[/?#@:%&=.+!]{1,2}", 3),
    ) {
        let password: String = pieces.iter().zip(&joints).map(|(a, b)| format!("{a}{b}")).collect();
        let url = format!("{before}{password}{after}");
        let Err(error) = read(&url) else {
            return Ok(());
        };
        let shown = format!("{error} {error:?}");
        for piece in &pieces {
            prop_assert!(!shown.contains(piece.as_str()), "{url}: {shown}");
            prop_assert!(!shown.contains(&piece.to_lowercase()), "{url}: {shown}");
        }
    }
}

/// A wrong URL, what is said, and what is shown.
const WRONG: [(&str, &str, &str); 51] = [
    ("", "starts with its scheme", "redis://127.0.0.1:6379/0"),
    (
        "127.0.0.1:6379",
        "starts with its scheme",
        "redis://127.0.0.1:6379/0",
    ),
    ("://h", "starts with its scheme", "redis://127.0.0.1:6379/0"),
    (
        "ann:pass@redis://h",
        "starts with its scheme",
        "redis://127.0.0.1:6379/0",
    ),
    (
        "http://h",
        "http:// is not a scheme",
        "redis://127.0.0.1:6379/0",
    ),
    (
        "redisss://h",
        "redisss:// is not a scheme",
        "redis-cluster://",
    ),
    (
        "redis-nodes://h",
        "redis-nodes:// is not a scheme",
        "redis-cluster://",
    ),
    (
        "rediss+unix:///s",
        "has no TLS",
        "redis+unix:///run/redis.sock",
    ),
    ("redis://", "host is missing", "redis://127.0.0.1:6379"),
    ("redis://:6379", "host is missing", "redis://127.0.0.1:6379"),
    (
        "redis://ann:pass@",
        "host is missing",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis+unix://",
        "host is missing",
        "redis+unix:///run/redis.sock",
    ),
    (
        "redis+unix://host/s",
        "host is missing",
        "redis+unix:///run/redis.sock",
    ),
    (
        "redis+unix:///",
        "host is missing",
        "redis+unix:///run/redis.sock",
    ),
    (
        "redis://::1:6379",
        "host is missing",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis://2001:db8::7",
        "stands in brackets",
        "redis://[::1]:6379",
    ),
    ("redis://[::1", "stands in brackets", "redis://[::1]:6379"),
    (
        "redis://[::1]6379",
        "stands in brackets",
        "redis://[::1]:6379",
    ),
    ("redis://[h]", "stands in brackets", "redis://[::1]:6379"),
    (
        "redis://h,h2",
        "names one host",
        "redis-cluster://10.0.0.1:6379?node=10.0.0.2:6379",
    ),
    (
        "redis://h:6379,redis://h2",
        "names one host",
        "failover_urls",
    ),
    (
        "redis://h\u{e9}",
        "neither a name nor an address",
        "redis://[::1]:6379",
    ),
    (
        "redis://h:0",
        "port is not a number",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis://h:",
        "port is not a number",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis://h:+1",
        "port is not a number",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis://h:65536",
        "port is not a number",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis-cluster://h?node=h2:x",
        "port is not a number",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis-cluster://h?node=",
        "host is missing",
        "redis://127.0.0.1:6379",
    ),
    (
        "redis://h/x",
        "database is not a number",
        "redis://127.0.0.1:6379/1",
    ),
    (
        "redis://h/1/",
        "database is not a number",
        "redis://127.0.0.1:6379/1",
    ),
    (
        "redis://h/65536",
        "database is not a number",
        "redis://127.0.0.1:6379/1",
    ),
    (
        "redis+unix:///s?db=",
        "database is not a number",
        "redis://127.0.0.1:6379/1",
    ),
    (
        "redis-cluster://h/1",
        "has database 0 only",
        "redis-cluster://10.0.0.1:6379?node=",
    ),
    (
        "redis-sentinel://h",
        "name for the primary is missing",
        "sentinelServiceName=mymaster",
    ),
    (
        "redis-sentinel://h?sentinelServiceName=",
        "name for the primary is missing",
        "sentinelServiceName=mymaster",
    ),
    (
        "redis-sentinel://h?sentinelServiceName=a&sentinelServiceName=b",
        "sentinelServiceName is given twice",
        "",
    ),
    ("redis+unix:///s?db=1&db=1", "db is given twice", ""),
    (
        "redis://h?db=1",
        "no parameter `db`",
        "redis://127.0.0.1:6379/0",
    ),
    (
        "redis://h?node=h2",
        "no parameter `node`",
        "redis://127.0.0.1:6379/0",
    ),
    (
        "redis://h?sentinelServiceName=a",
        "redis:// has no parameter `sentinelServiceName`",
        "use redis-sentinel://",
    ),
    (
        "redis-cluster://h?nodes=h2",
        "no parameter `nodes`",
        "?node=10.0.0.2:6379",
    ),
    (
        "redis-sentinel://h?serviceName=a",
        "no parameter `serviceName`",
        "sentinelServiceName=mymaster&sentinelUsername=USER",
    ),
    ("redis://h#x", "has no #", "%23"),
    ("redis://h /0", "no spaces", "%20"),
    ("redis://h\n", "no spaces", "%20"),
    ("redis://:a%2@h", "% stands for itself", "%25"),
    ("redis://a%zz:b@h:1", "% stands for itself", "%25"),
    ("redis://:%ff@h", "% stands for itself", "%25"),
    (
        "redis://:pa/ss@h",
        "an @ behind the host",
        "redis://:p%40ss@127.0.0.1:6379",
    ),
    (
        "redis://:pa?ss@h",
        "an @ behind the host",
        "redis://:p%40ss@127.0.0.1:6379",
    ),
    ("redis://:pa#ss@h", "has no #", "%23"),
];
