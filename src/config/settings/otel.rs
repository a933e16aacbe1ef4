//! OpenTelemetry's own variables, `OTEL_*`, as far as they are about pushing metrics and spans.
//!
//! They are often set for everything in a cluster at once, by others than those who run Tollgate. So
//! what is wrong in one is a warning and not an error, and a setting of Tollgate's own wins over
//! them. As OpenTelemetry has it, an empty variable is as good as none, and a signal's own variable
//! wins over the one for all signals.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::otlp::{OtlpEndpoint, protocol};
use super::texts::Written;
use crate::config::report::{Problem, Report, Severity};
use crate::telemetry::otlp::{Headers, OtlpProtocol, PemFiles, SpanQueue};

/// What the variables say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Otel {
    /// Nothing is to be pushed.
    pub(super) disabled: bool,
    pub(super) metrics: Signal,
    pub(super) traces: Signal,
    pub(super) interval: Option<Duration>,
    pub(super) spans: SpanQueue,
    /// Which share of traces is recorded, and whether the parent is followed.
    pub(super) sampler: Option<(f64, bool)>,
    pub(super) resource: Vec<(String, String)>,
}

/// What they say of one signal.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Signal {
    /// Whether it is pushed.
    pub(super) exporter: Option<bool>,
    /// Where to, as it is.
    pub(super) own_endpoint: Option<Uri>,
    /// Where all signals go; over HTTP its path is appended.
    pub(super) endpoint: Option<Uri>,
    pub(super) protocol: Option<OtlpProtocol>,
    pub(super) headers: Headers,
    pub(super) timeout: Option<Duration>,
    pub(super) files: PemFiles,
}

/// What the variables say; warns of what cannot be done.
pub(super) fn read(variables: impl Iterator<Item = (String, String)>, report: &mut Report) -> Otel {
    let mut variables = Variables {
        texts: variables
            .filter(|(name, text)| name.starts_with(PREFIX) && !text.trim().is_empty())
            .collect(),
        report,
    };
    let variables = &mut variables;
    variables.warn_of_others();
    Otel {
        disabled: variables.value("OTEL_SDK_DISABLED", flag).unwrap_or(false),
        metrics: variables.signal("METRICS"),
        traces: variables.signal("TRACES"),
        interval: variables.value("OTEL_METRIC_EXPORT_INTERVAL", |text| millis(text, 100)),
        spans: variables.spans(),
        sampler: variables.sampler(),
        resource: variables.resource(),
    }
}

struct Variables<'r> {
    texts: BTreeMap<String, String>,
    report: &'r mut Report,
}

impl Variables<'_> {
    /// What `read` makes of a variable; what it cannot is warned of and as good as none.
    fn value<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.texts.get(name)?.trim().to_owned();
        match read(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.warn(name, why, "it is ignored");
                None
            }
        }
    }

    /// The variable of one signal, or else that of all.
    fn of_signal<T>(
        &mut self,
        signal: &str,
        what: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let own = self.value(&format!("{PREFIX}EXPORTER_OTLP_{signal}_{what}"), &read);
        own.or_else(|| self.value(&format!("{PREFIX}EXPORTER_OTLP_{what}"), &read))
    }

    fn signal(&mut self, signal: &str) -> Signal {
        let endpoint = |text: &str| OtlpEndpoint::read(text).map(OtlpEndpoint::into_uri);
        let path = |text: &str| Ok(PathBuf::from(text));
        let certificate = self.of_signal(signal, "CLIENT_CERTIFICATE", path);
        let key = self.of_signal(signal, "CLIENT_KEY", path);
        if certificate.is_some() != key.is_some() {
            let name = format!("{PREFIX}EXPORTER_OTLP_CLIENT_CERTIFICATE");
            let why = "goes with OTEL_EXPORTER_OTLP_CLIENT_KEY, and one of them is missing";
            self.warn(&name, why.to_owned(), "it is ignored");
        }
        Signal {
            exporter: self.value(&format!("{PREFIX}{signal}_EXPORTER"), exporter),
            own_endpoint: self.value(
                &format!("{PREFIX}EXPORTER_OTLP_{signal}_ENDPOINT"),
                endpoint,
            ),
            endpoint: self.value(&format!("{PREFIX}EXPORTER_OTLP_ENDPOINT"), endpoint),
            protocol: self.of_signal(signal, "PROTOCOL", protocol),
            headers: self
                .of_signal(signal, "HEADERS", headers)
                .unwrap_or_default(),
            timeout: self.of_signal(signal, "TIMEOUT", |text| millis(text, 1)),
            files: PemFiles {
                ca: self.of_signal(signal, "CERTIFICATE", path),
                identity: certificate.zip(key),
            },
        }
    }

    fn spans(&mut self) -> SpanQueue {
        let usual = SpanQueue::default();
        let size = self.value("OTEL_BSP_MAX_QUEUE_SIZE", count);
        let batch = self.value("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", count);
        let delay = self.value("OTEL_BSP_SCHEDULE_DELAY", |text| millis(text, 1));
        let size = size.unwrap_or(usual.size);
        SpanQueue {
            size,
            batch: batch.unwrap_or(usual.batch).min(size),
            delay: delay.unwrap_or(usual.delay),
        }
    }

    fn sampler(&mut self) -> Option<(f64, bool)> {
        let (share, follows_parent) = self.value("OTEL_TRACES_SAMPLER", sampler)?;
        let share = match share {
            Some(share) => share,
            None => self.value("OTEL_TRACES_SAMPLER_ARG", ratio).unwrap_or(1.0),
        };
        Some((share, follows_parent))
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let mut resource = self
            .value("OTEL_RESOURCE_ATTRIBUTES", pairs)
            .unwrap_or_default();
        if let Some(name) = self.value("OTEL_SERVICE_NAME", |text| Ok(text.to_owned())) {
            resource.retain(|(key, _)| key != SERVICE_NAME);
            resource.push((SERVICE_NAME.to_owned(), name));
        }
        resource
    }

    /// Warns of what somebody may count on and nobody does.
    fn warn_of_others(&mut self) {
        for (name, fine, why) in NOT_DONE {
            let Some(text) = self.texts.get(*name) else {
                continue;
            };
            let mut words = text.split(',').map(str::trim);
            if !words.any(|word| word.eq_ignore_ascii_case(fine)) {
                let message = format!("has no effect: {why}");
                self.warn(name, message, "it is ignored");
            }
        }
    }

    fn warn(&mut self, name: &str, message: String, hint: &str) {
        // The variables of all signals are read once for each.
        let mut told = self.report.problems().iter();
        if told.any(|problem| problem.file == name.into() && problem.message == message) {
            return;
        }
        self.report.push(Problem {
            severity: Severity::Warning,
            file: name.into(),
            line: 0,
            column: 0,
            path: String::new(),
            message,
            hint: Some(hint.to_owned()),
        });
    }
}

fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn exporter(text: &str) -> Result<bool, String> {
    let mut words = text.split(',').map(str::trim);
    if words.clone().any(|word| word == "otlp") {
        return Ok(true);
    }
    match words.all(|word| word == "none" || word == "prometheus") {
        true => Ok(false),
        false => Err(format!("{text:?} is neither otlp nor none")),
    }
}

fn sampler(text: &str) -> Result<(Option<f64>, bool), String> {
    Ok(match text {
        "always_on" => (Some(1.0), false),
        "always_off" => (Some(0.0), false),
        "traceidratio" => (None, false),
        "parentbased_always_on" => (Some(1.0), true),
        "parentbased_always_off" => (Some(0.0), true),
        "parentbased_traceidratio" => (None, true),
        _ => {
            return Err(format!(
                "{text:?} is no sampler that is known here (always_on, always_off, traceidratio, \
                 and each with parentbased_ before it)"
            ));
        }
    })
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| format!("{text:?} is no share from 0 to 1"))
}

fn millis(text: &str, least: u64) -> Result<Duration, String> {
    let millis = u64::from_str(text).ok();
    let millis = millis.filter(|millis| (least..=MOST_MILLIS).contains(millis));
    millis.map(Duration::from_millis).ok_or_else(|| {
        format!("{text:?} is no whole number of milliseconds from {least} to {MOST_MILLIS}")
    })
}

fn count(text: &str) -> Result<usize, String> {
    let count = usize::from_str(text).ok();
    count
        .filter(|count| (1..=MOST_SPANS).contains(count))
        .ok_or_else(|| format!("{text:?} is no whole number from 1 to {MOST_SPANS}"))
}

/// `name=value,name=value`, with what is special written as `%2C`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let mut pairs = Vec::new();
    for part in parts {
        // Not the text itself, which may be a secret.
        let wrong = || "is not name=value,name=value".to_owned();
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let decoded = percent_decode_str(value.trim()).decode_utf8();
        let value = decoded.map_err(|_not_utf8| wrong())?.into_owned();
        match name.trim() {
            "" => return Err(wrong()),
            name => pairs.push((name.to_owned(), value)),
        }
    }
    Ok(pairs)
}

fn headers(text: &str) -> Result<Headers, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text)? {
        let wrong = |what| format!("holds a header whose {what} cannot be sent");
        let name = HeaderName::from_str(&name.to_ascii_lowercase());
        let value = HeaderValue::from_str(&value);
        headers.append(
            name.map_err(|_error| wrong("name"))?,
            value.map_err(|_error| wrong("value"))?,
        );
    }
    Ok(Headers(headers))
}

const PREFIX: &str = "OTEL_";

pub(super) const SERVICE_NAME: &str = "service.name";

const MOST_MILLIS: u64 = 24 * 60 * 60 * 1000;

const MOST_SPANS: usize = 1_000_000;

/// Variables that are not heeded, the one value that changes nothing, and why.
const NOT_DONE: &[(&str, &str, &str)] = &[
    ("OTEL_BSP_EXPORT_TIMEOUT", "", OTHER_TIMEOUT),
    (
        "OTEL_CONFIG_FILE",
        "",
        "there are no files but tollgate.yaml",
    ),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "none", NO_COMPRESSION),
    (
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
        "none",
        NO_COMPRESSION,
    ),
    (
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "none",
        NO_COMPRESSION,
    ),
    (
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "cumulative",
        "metrics are pushed as they are on /metrics, cumulative",
    ),
    (
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "explicit_bucket_histogram",
        "histograms have the buckets that they have on /metrics",
    ),
    (
        "OTEL_LOGS_EXPORTER",
        "none",
        "logs go to standard error, and are not pushed",
    ),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "", OTHER_TIMEOUT),
    (
        "OTEL_PROPAGATORS",
        "tracecontext",
        "W3C's trace context (traceparent) is what is read",
    ),
];

const NO_COMPRESSION: &str = "nothing is compressed";

const OTHER_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT says how long a push may take";
