//! Log lines on standard error, as text for people or JSON for machines.
//!
//! The level can be changed while the service runs. It is Tollgate's own: what the libraries may
//! log at each level is in one table ([`LIBRARIES`]). A line is written by the thread that logs, so
//! nothing on the request path may log at `info` or above for every request.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as lines};

use crate::model::escaped;

/// The least grave thing that is still logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something is broken, and somebody must act.
    Error,
    /// Something is wrong, and Tollgate goes on.
    Warn,
    /// What an operator wants to know of a healthy service.
    #[default]
    Info,
    /// What Tollgate decides and why, connections, reloads.
    Debug,
    /// The same, and what libraries say up to `debug`.
    Trace,
}

impl Level {
    /// Every level, the gravest first.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Its place in [`Level::ALL`].
    const fn index(self) -> usize {
        match self {
            Self::Error => 0,
            Self::Warn => 1,
            Self::Info => 2,
            Self::Debug => 3,
            Self::Trace => 4,
        }
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }

    /// What is logged at this level: our own lines from it up, those of libraries by the table.
    fn targets(self) -> Targets {
        let of_libraries = LIBRARIES.map(|(library, allowed)| (library, allowed.at(self)));
        Targets::new()
            .with_default(Allowed::Warnings.at(self))
            .with_targets(of_libraries)
            .with_target(OWN, self.filter())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| UnknownName::new("log level", text, &Self::ALL.map(Self::name)))
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people: one line, in colour on a terminal.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| UnknownName::new("log format", text, &Self::ALL.map(Self::name)))
    }
}

/// A text that names no level or format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{text}\" (known: {known})")]
pub struct UnknownName {
    what: &'static str,
    text: String,
    known: String,
}

impl UnknownName {
    fn new(what: &'static str, text: &str, known: &[&str]) -> Self {
        Self {
            what,
            text: text.to_owned(),
            known: known.join(", "),
        }
    }
}

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    /// The level's place in [`Level::ALL`].
    level: Arc<AtomicUsize>,
}

impl LogHandle {
    /// Logs from `level` up, from now on.
    ///
    /// # Errors
    ///
    /// When the log is gone.
    pub fn set_level(&self, level: Level) -> Result<(), LogError> {
        self.filter
            .reload(level.targets())
            .map_err(|error| LogError(error.to_string()))?;
        self.level.store(level.index(), Ordering::Relaxed);
        Ok(())
    }

    /// From which level up it logs.
    #[must_use]
    pub fn level(&self) -> Level {
        let index = self.level.load(Ordering::Relaxed);
        Level::ALL.get(index).copied().unwrap_or_default()
    }
}

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be set up: {0}")]
pub struct LogError(String);

/// Sends everything that is logged in this process to standard error.
///
/// # Errors
///
/// When the process has a log already.
pub fn init(level: Level, format: Format) -> Result<LogHandle, LogError> {
    let colour = format == Format::Text && io::stderr().is_terminal();
    let (subscriber, handle) = subscriber(level, format, colour, io::stderr);
    subscriber
        .try_init()
        .map_err(|error| LogError(error.to_string()))?;
    Ok(handle)
}

fn subscriber<W>(
    level: Level,
    format: Format,
    colour: bool,
    writer: W,
) -> (impl Subscriber + Send + Sync, LogHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(level.targets());
    let writer = Escaping { writer, colour };
    let lines = lines::layer().with_writer(writer).with_ansi(colour);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = Registry::default().with(lines.with_filter(filter));
    let handle = LogHandle {
        filter: handle,
        level: Arc::new(AtomicUsize::new(level.index())),
    };
    (subscriber, handle)
}

/// What a library may log.
#[derive(Clone, Copy, Debug)]
enum Allowed {
    /// Nothing at any level.
    Nothing,
    /// Nothing; at `trace` everything up to `debug`.
    OnlyAtTrace,
    /// Warnings and errors, at every level that shows ours.
    OnlyWarnings,
    /// Warnings and errors; at `trace` everything up to `debug`.
    Warnings,
}

impl Allowed {
    const fn at(self, level: Level) -> LevelFilter {
        match (self, level) {
            (Self::OnlyAtTrace, Level::Trace) => LevelFilter::DEBUG,
            (Self::Nothing | Self::OnlyAtTrace, _) => LevelFilter::OFF,
            (_, Level::Error) => LevelFilter::ERROR,
            (Self::Warnings, Level::Trace) => LevelFilter::DEBUG,
            (Self::OnlyWarnings | Self::Warnings, _) => LevelFilter::WARN,
        }
    }
}

/// Targets of libraries, and what each may log. A library that is not named here may log as tonic does.
const LIBRARIES: [(&str, Allowed); 12] = [
    // Its lines hold what servers answer, and a server may repeat the password. What an operator
    // has to know of it, `store::redis` logs with its cause.
    ("fred", Allowed::Nothing),
    // They warn of each frame that a client should not have sent, at the client's pace. What ends a stream or a
    // connection is counted, and logged once a minute (`transport::http2`).
    ("h2", Allowed::OnlyAtTrace),
    ("hyper", Allowed::OnlyAtTrace),
    ("hyper_util", Allowed::OnlyAtTrace),
    // A line for each event of a watched folder: where the log is in that folder, each line would
    // be the cause of the next.
    ("inotify", Allowed::OnlyWarnings),
    ("mio", Allowed::OnlyWarnings),
    ("notify", Allowed::OnlyWarnings),
    ("reqwest", Allowed::Warnings),
    ("rustls", Allowed::Warnings),
    ("tokio", Allowed::Warnings),
    ("tonic", Allowed::Warnings),
    ("tower", Allowed::Warnings),
];

/// The target of our own lines.
const OWN: &str = "tollgate";

/// Makes writers that escape control characters and cut what is very long: what is logged may repeat
/// what a client or a file says. A line is written in one piece.
#[derive(Clone, Debug)]
struct Escaping<W> {
    writer: W,
    /// The colours of lines stay.
    colour: bool,
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaping<W> {
    type Writer = Escaping<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Escaping {
            writer: self.writer.make_writer(),
            colour: self.colour,
        }
    }
}

impl<W: io::Write> io::Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = cut(&text);
        let mut parts = text.split('\u{1b}');
        let mut line = escaped(parts.next().unwrap_or_default()).into_owned();
        for part in parts {
            let is_own = self.colour && COLOURS.iter().any(|colour| part.starts_with(colour));
            line.push_str(if is_own { "\u{1b}" } else { "\\u001b" });
            line.push_str(&escaped(part));
        }
        self.writer.write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A line of [`MAX_LINE`] bytes or little more. JSON stays JSON: only its strings are cut.
fn cut(line: &str) -> Cow<'_, str> {
    if line.len() <= MAX_LINE {
        return Cow::Borrowed(line);
    }
    let mut cut = match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            cut_strings(&mut value);
            let cut = value.to_string();
            match cut.len() {
                // Of many strings, or long names of fields: a string of it all.
                MAX_LINE.. => Value::from(cut_text(line, MAX_STRING)).to_string(),
                _ => cut,
            }
        }
        Err(_) => cut_text(line, MAX_LINE),
    };
    cut.push('\n');
    Cow::Owned(cut)
}

fn cut_strings(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > MAX_STRING => *text = cut_text(text, MAX_STRING),
        Value::Array(values) => values.iter_mut().for_each(cut_strings),
        Value::Object(fields) => fields.values_mut().for_each(cut_strings),
        _ => {}
    }
}

fn cut_text(text: &str, most: usize) -> String {
    let kept = text
        .get(..text.floor_char_boundary(most))
        .unwrap_or_default();
    let left_out = text.len().saturating_sub(kept.len());
    format!("{kept}... ({left_out} bytes left out)")
}

/// Bytes of a line that is not cut. A report of 20 problems has half of them.
const MAX_LINE: usize = 32 << 10;

/// Bytes of a string in a longer line of JSON.
const MAX_STRING: usize = 4 << 10;

/// What follows the escape character in a line's own colours. Nothing here moves the cursor.
const COLOURS: [&str; 9] = [
    "[0m", "[1m", "[2m", "[3m", "[31m", "[32m", "[33m", "[34m", "[35m",
];

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Captured {
        type Writer = Self;

        fn make_writer(&'w self) -> Self {
            self.clone()
        }
    }

    fn logged(level: Level, format: Format, log: impl FnOnce(&LogHandle)) -> String {
        let captured = Captured::default();
        let (subscriber, handle) = subscriber(level, format, false, captured.clone());
        tracing::subscriber::with_default(subscriber, || log(&handle));
        captured.text()
    }

    #[test]
    fn a_text_line_tells_level_message_and_fields() {
        let text = logged(Level::Info, Format::Text, |_| {
            tracing::warn!(path = "policies", "policies refused");
            tracing::debug!("not shown");
        });
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.contains(" WARN ") && text.contains("policies refused"),
            "{text}"
        );
        assert!(text.contains("path=\"policies\""), "{text}");
    }

    #[test]
    fn long_lines_are_cut_and_json_stays_json() {
        let long = "\u{fc}".repeat(1 << 20);
        let text = cut(&long);
        assert!(text.len() < MAX_LINE + 50, "{}", text.len());
        assert!(text.ends_with("bytes left out)\n"));
        let line = serde_json::json!({"fields": {"domain": long, "rules": 3}}).to_string();
        let json = cut(&line);
        assert!(json.len() < 2 * MAX_STRING, "{}", json.len());
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["fields"]["rules"], 3);
        assert_eq!(cut("short\n"), "short\n");
        let many: Vec<_> = (0..40).map(|_| "x".repeat(4000)).collect();
        let cut = cut(&serde_json::json!(many).to_string()).into_owned();
        assert!(cut.len() < 2 * MAX_STRING, "{}", cut.len());
        assert!(serde_json::from_str::<Value>(&cut).is_ok());
    }

    #[test]
    fn control_characters_are_escaped_in_every_format() {
        let nasty = "x\u{1b}[31m\u{9b}2J\u{7}\r\u{7f}\u{202e}y";
        for colour in [false, true] {
            for format in Format::ALL {
                let captured = Captured::default();
                let (subscriber, _handle) =
                    subscriber(Level::Info, format, colour, captured.clone());
                tracing::subscriber::with_default(subscriber, || {
                    tracing::warn!(shown = %nasty, debug = ?nasty, text = nasty, "{nasty}");
                });
                let text = captured.text();
                let own = |text: &str| {
                    // The colours of the line itself.
                    let mut rest = text.to_owned();
                    for colour in COLOURS {
                        rest = rest.replace(&format!("\u{1b}{colour}"), "");
                    }
                    rest
                };
                let rest = own(&text);
                assert!(!rest.trim_end().contains(char::is_control), "{rest:?}");
                assert!(!rest.contains('\u{202e}'), "{rest:?}");
                assert!(rest.contains("[31m") && rest.contains("2J"), "{rest:?}");
            }
        }
    }

    #[test]
    fn a_json_line_is_an_object_with_its_fields() {
        let text = logged(Level::Info, Format::Json, |_| {
            tracing::info!(rules = 3, "policies loaded");
        });
        let line: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "policies loaded");
        assert_eq!(line["rules"], 3);
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let text = logged(Level::Warn, Format::Text, |handle| {
            let say = |what: &str| tracing::info!("{what}");
            say("before");
            assert_eq!(handle.level(), Level::Warn);
            handle.set_level(Level::Info).unwrap();
            assert_eq!(handle.level(), Level::Info);
            say("between");
            handle.set_level(Level::Error).unwrap();
            say("after");
        });
        assert!(text.contains("between"));
        assert!(
            !text.contains("before") && !text.contains("after"),
            "{text}"
        );
    }

    #[test]
    fn libraries_are_heard_from_warn_up_unless_tracing() {
        let speak = |_: &LogHandle| {
            tracing::debug!(target: "h2::codec", "library debug");
            tracing::trace!(target: "h2::codec", "library trace");
            tracing::debug!(target: "not_in_the_table", "other debug");
            tracing::warn!(target: "tonic::transport", "library warning");
            tracing::warn!(target: "not_in_the_table", "other warning");
            tracing::debug!("our own");
        };
        let heard = |level| {
            let text = logged(level, Format::Text, speak);
            [
                "library debug",
                "other debug",
                "library trace",
                "library warning",
                "other warning",
                "our own",
            ]
            .map(|part| text.contains(part))
        };
        assert_eq!(heard(Level::Error), [false; 6]);
        assert_eq!(heard(Level::Warn), [false, false, false, true, true, false]);
        assert_eq!(heard(Level::Info), [false, false, false, true, true, false]);
        assert_eq!(heard(Level::Debug), [false, false, false, true, true, true]);
        assert_eq!(heard(Level::Trace), [true, true, false, true, true, true]);
    }

    #[test]
    fn frames_of_a_client_cannot_fill_the_log() {
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug] {
            let text = logged(level, Format::Text, |_| {
                tracing::warn!(target: "h2::proto::ping_pong", "unexpected ACK");
                tracing::error!(target: "hyper::proto", "a frame");
            });
            assert_eq!(text, "", "{level}");
        }
    }

    #[test]
    fn the_redis_client_and_the_watcher_are_kept_quiet_at_every_level() {
        for level in Level::ALL {
            let text = logged(level, Format::Text, |_| {
                tracing::error!(target: "fred::router", "AUTH hunter2");
                tracing::trace!(target: "fred", "AUTH hunter2");
                tracing::debug!(target: "notify::inotify", "an event");
                tracing::info!(target: "mio::poll", "an event");
            });
            assert_eq!(text, "", "{level}");
        }
    }

    #[test]
    fn names_read_back_and_others_are_refused_with_the_known_ones() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "verbose".parse::<Level>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown log level \"verbose\" (known: error, warn, info, debug, trace)"
        );
        assert!("xml".parse::<Format>().is_err());
    }

    #[test]
    fn a_line_that_cannot_be_written_harms_nobody() {
        struct Broken;
        impl io::Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (subscriber, _handle) = subscriber(Level::Info, Format::Text, false, || Broken);
        tracing::subscriber::with_default(subscriber, || tracing::error!("unheard"));
    }
}
