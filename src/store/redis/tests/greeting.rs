//! What `INFO` says, where no server of the tests says it.

use super::*;

fn info(text: &str) -> Result<Reached, Failure> {
    let text = text.replace('\n', "\r\n");
    read(&Place::tcp("h", 6379), &Reply::Text(text.into()))
}

#[test]
fn a_server_that_is_too_old_is_refused() {
    for version in ["2.8.24", "5.0.14", "6.0.16"] {
        let text =
            format!("# Server\nredis_version:{version}\nredis_mode:standalone\nrole:master\n");
        let failure = info(&text).unwrap_err();
        assert_eq!(failure.class, FailureClass::MisConfigured);
        let says = format!("h:6379 is Redis {version}, and Tollgate needs Redis 6.2 or newer");
        assert!(failure.detail.starts_with(&says), "{failure}");
    }
}

#[test]
fn a_server_that_others_build_is_read() {
    let text = "# Server\nredis_version:7.4.0-rc1\nredis_mode:cluster\n# Replication\nrole:slave\n\
                master_host:10.0.0.1\nmaster_port:7001\nloading:1\n";
    let reached = info(text).unwrap();
    let of = Place::tcp("10.0.0.1", 7001);
    assert_eq!(
        reached,
        Reached {
            server: "Redis 7.4.0".to_owned(),
            version: (7, 4, 0),
            mode: Mode::Cluster,
            role: Role::Replica { of },
            loading: true,
            warnings: Vec::new(),
        }
    );
    assert_eq!(
        reached.to_string(),
        "Redis 7.4.0, cluster, replica of 10.0.0.1:7001"
    );
    let text = "redis_version:255\nredis_version:7.2\nrole:master";
    assert_eq!(info(text).unwrap().version, (7, 2, 0));
}

#[test]
fn what_is_no_information_is_refused() {
    for text in [
        "",
        "redis_version:x\nrole:master",
        "redis_version:7\nrole:master",
        "redis_version:7.0.0",
        "redis_version:7.0.0\nrole:king",
        "redis_version:7.0.0\nrole:slave\nmaster_host:h\nmaster_port:99999",
        "redis_version:7.0.0\nrole:slave\nmaster_host:h",
    ] {
        assert_eq!(
            info(text).unwrap_err().class,
            FailureClass::Protocol,
            "{text}"
        );
    }
    let place = Place::tcp("h", 6379);
    assert!(read(&place, &Reply::Nil).is_err());
}
