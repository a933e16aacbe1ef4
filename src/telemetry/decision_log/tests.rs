use std::io;

use serde_json::{Value, json};

use super::*;
use crate::event::{DecidedBy, Outcome, WrittenRuling};
use crate::model::TraceRef;

/// Keeps what is written; each write waits for a permit if there is somebody who gives them.
#[derive(Clone, Default)]
struct Kept {
    text: Arc<Mutex<Vec<u8>>>,
    permits: Option<Arc<Mutex<Receiver<()>>>>,
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(permits) = &self.permits {
            // Whoever gives them has gone: write on.
            let _permit = permits.lock().recv();
        }
        self.text.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.text.lock().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

const NOTHING: WrittenDescriptor<'static> = WrittenDescriptor {
    entries: &[],
    hits: Hits::Peek,
    rule: None,
    decided: None,
    ruling: None,
};

fn written<'a>(descriptors: &'a [WrittenDescriptor<'a>]) -> Written<'a> {
    Written {
        at_millis: 1_795_521_600_123,
        domain: b"shop",
        denied: Some(true),
        trace: None,
        descriptors,
    }
}

async fn flush(log: &DecisionLog) {
    log.flush(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn a_decision_is_a_line_with_all_that_was_asked_and_said() {
    let kept = Kept::default();
    let log = DecisionLog::new(Arc::default(), Box::new(kept.clone()));
    let entries = [
        Entry {
            key: b"user_id",
            value: b"al\"ice\n",
        },
        Entry {
            key: b"path",
            value: b"\xff",
        },
    ];
    let descriptors = [
        WrittenDescriptor {
            entries: &entries,
            hits: Hits::Charge(3),
            rule: Some("user_id"),
            decided: Some((Outcome::Denied, DecidedBy::Memory)),
            ruling: Some(WrittenRuling {
                limit: 5,
                window_millis: 60_000,
                counted: 4,
                remaining: 0,
                reset_millis: 1_500,
            }),
        },
        WrittenDescriptor {
            hits: Hits::Refund(2),
            ..NOTHING
        },
    ];
    log.write(&Written {
        trace: TraceRef::new(0xabc, 1),
        ..written(&descriptors)
    });
    flush(&log).await;
    let expected = json!({
        "time": "2026-11-24T12:00:00.123Z",
        "domain": "shop",
        "verdict": "over_limit",
        "trace_id": "00000000000000000000000000000abc",
        "descriptors": [
            {
                "entries": [
                    { "key": "user_id", "value": "al\"ice\n" },
                    { "key": "path", "value": "\u{fffd}" },
                ],
                "hits": 3, "rule": "user_id", "outcome": "denied", "source": "memory",
                "limit": 5, "window_ms": 60_000, "counted": 4, "remaining": 0, "reset_ms": 1_500,
            },
            { "entries": [], "hits": -2 },
        ],
    });
    assert_eq!(kept.lines(), [expected]);
}

#[tokio::test]
async fn a_query_that_could_not_be_decided_is_an_error() {
    let kept = Kept::default();
    let log = DecisionLog::new(Arc::default(), Box::new(kept.clone()));
    log.write(&Written {
        denied: None,
        ..written(&[NOTHING])
    });
    flush(&log).await;
    let lines = kept.lines();
    assert_eq!(lines[0]["verdict"], "error");
    assert_eq!(lines[0]["descriptors"][0].get("outcome"), None);
}

#[tokio::test]
async fn however_large_a_request_is_its_line_is_bounded() {
    let kept = Kept::default();
    let log = DecisionLog::new(Arc::default(), Box::new(kept.clone()));
    let long = vec![b'x'; 100_000];
    let entries = vec![
        Entry {
            key: &long,
            value: &long,
        };
        100
    ];
    let descriptor = WrittenDescriptor {
        entries: &entries,
        ..NOTHING
    };
    log.write(&Written {
        domain: &long,
        ..written(&vec![descriptor; 100])
    });
    flush(&log).await;
    let line = &kept.lines()[0];
    let shown = line["descriptors"].as_array().unwrap();
    assert_eq!((shown.len(), &line["more"]), (16, &json!(84)));
    assert_eq!(shown[0]["entries"].as_array().unwrap().len(), 32);
    assert!(kept.text.lock().len() < 300_000);
}

#[tokio::test]
async fn an_output_that_nobody_reads_drops_lines_and_delays_nothing() {
    let dropped = Arc::new(Dropped::default());
    let (permit, permits) = channel();
    let kept = Kept {
        permits: Some(Arc::new(Mutex::new(permits))),
        ..Kept::default()
    };
    let log = DecisionLog::new(Arc::clone(&dropped), Box::new(kept.clone()));
    let mut asked = 0;
    while dropped.get(Kind::Decisions) < 100 {
        log.write(&written(&[NOTHING]));
        asked += 1;
        assert!(asked < ROOM, "each takes more than a byte");
    }
    log.flush(Duration::from_millis(1)).await;
    drop(permit);
    flush(&log).await;
    assert_eq!(kept.lines().len(), asked - 100);
    assert!(kept.text.lock().len() < ROOM + 1_000);
    log.write(&written(&[NOTHING]));
    flush(&log).await;
    assert_eq!(kept.lines().len(), asked - 99, "there is room again");
}

#[tokio::test]
async fn a_broken_output_counts_what_it_lost() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dropped = Arc::new(Dropped::default());
    let log = DecisionLog::new(Arc::clone(&dropped), Box::new(Broken));
    log.write(&written(&[NOTHING]));
    log.write(&written(&[NOTHING]));
    flush(&log).await;
    assert_eq!(dropped.get(Kind::Decisions), 2);
}
