//! One run under load, and what two of them say together.

use std::time::Duration;

use tokio::time::Instant;

use super::Length;
use super::bed::{Bed, Counts};
use super::load::Sample;
use super::ticker::{Stalls, Ticker};
use crate::process::until;

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) requests: u64,
    /// Answers 200, 429, and anything else.
    pub(super) answers: [u64; 3],
    pub(super) counts: Counts,
    /// In order, the fastest first.
    latencies: Vec<Duration>,
    pub(super) stalls: Stalls,
    pub(super) mended: Option<Recovery>,
}

/// What a fault did before it was over.
#[derive(Clone, Debug)]
pub(super) struct Mended {
    /// From then on there was a Redis that could serve.
    pub(super) serves: Instant,
    /// Something else to report.
    pub(super) note: String,
}

#[derive(Clone, Debug)]
pub(super) struct Recovery {
    /// From when Redis could serve until all Tollgates used it; 0 if they never ceased to.
    pub(super) after: Duration,
    pub(super) note: String,
}

/// A run without a fault and the one with it.
pub(super) type Pair = (Run, Run);

/// Puts load on the bed, and breaks something meanwhile. The run is as long as it is to be, and
/// longer if not all Tollgates use Redis again by then.
pub(super) async fn measure(
    bed: &Bed,
    length: &Length,
    fault: impl AsyncFnOnce() -> Option<Mended>,
) -> Run {
    let before = bed.counts().await;
    let (watch, ticker, begun) = (bed.watch(), Ticker::start(), Instant::now());
    let load = bed.load();
    passes(length.before).await;
    let mended = fault().await;
    if let Some(mended) = &mended {
        until("all Tollgates to use Redis again", || {
            watch.shared_after(mended.serves).then_some(())
        })
        .await;
    }
    passes((begun + length.load).duration_since(Instant::now())).await;
    let samples = load.stop();
    let (stalls, back) = (ticker.stop(), watch.stop());
    Run {
        mended: mended.map(|mended| Recovery {
            after: back.map_or(Duration::ZERO, |back| {
                back.saturating_duration_since(mended.serves)
            }),
            note: mended.note,
        }),
        ..Run::new(&samples, bed.counts().await.since(before), stalls)
    }
}

/// What is wrong with some pairs, if something is.
pub(super) fn judge(pairs: &[Pair], length: &Length) -> Result<(), String> {
    type Counter = fn(&Run) -> u64;
    let (control, faulted): (Vec<&Run>, Vec<&Run>) = pairs.iter().map(|(c, f)| (c, f)).unzip();
    let of = |runs: &[&Run], what: Counter| median(runs.iter().map(|run| what(run)));
    let requests = of(&faulted, |run| run.requests);
    let mut wrong = Vec::new();
    let counters: [(&str, Counter); 2] = [
        ("error", |run| run.counts.error),
        ("failure_mode_allowed", |run| run.counts.allowed),
    ];
    for (name, count) in counters {
        let (without, with) = (of(&control, count), of(&faulted, count));
        let noise = control.iter().map(|run| count(run)).max().unwrap_or(0);
        let forgiven = length.forgiven(requests, noise);
        if with > without + forgiven {
            wrong.push(format!(
                "{name} is {with} with the fault, {without} without, and {forgiven} more are forgiven"
            ));
        }
    }
    for run in control.iter().chain(&faulted) {
        if run.answers[2] > 0 {
            wrong.push(format!(
                "{} answers were neither 200 nor 429",
                run.answers[2]
            ));
        }
        if run.counts.total() != run.requests {
            wrong.push(format!("{} requests, and {:?}", run.requests, run.counts));
        }
    }
    let recoveries = faulted.iter().filter_map(|run| run.mended.as_ref());
    let recovery = median(recoveries.map(|mended| mended.after));
    if recovery > length.recovery {
        wrong.push(format!(
            "Redis was used again {recovery:?} after it could serve, not {:?}",
            length.recovery
        ));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// Load goes on and nothing is waited for.
pub(super) async fn passes(time: Duration) {
    tokio::time::sleep(time).await;
}

impl Run {
    fn new(samples: &[Sample], counts: Counts, stalls: Stalls) -> Self {
        let mut latencies: Vec<_> = samples.iter().map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        let count = |is: fn(u16) -> bool| {
            let found = samples.iter().filter(|sample| is(sample.status)).count();
            u64::try_from(found).expect("a count")
        };
        Self {
            requests: count(|_| true),
            answers: [
                count(|status| status == 200),
                count(|status| status == 429),
                count(|status| status != 200 && status != 429),
            ],
            counts,
            latencies,
            stalls,
            mended: None,
        }
    }

    /// The latency that so many in a thousand requests did not exceed.
    pub(super) fn quantile(&self, per_mille: usize) -> Duration {
        let rank = (self.latencies.len() * per_mille).div_ceil(1_000);
        let found = self.latencies.get(rank.saturating_sub(1));
        found.copied().unwrap_or_default()
    }
}

/// The middle one, the lower of two; 0 of none.
pub(super) fn median<T: Ord + Copy + Default>(of: impl Iterator<Item = T>) -> T {
    let mut all: Vec<T> = of.collect();
    all.sort_unstable();
    let middle = all.len().saturating_sub(1) / 2;
    all.get(middle).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{FULL, SHORT};

    fn run(requests: u64, undecided: u64) -> Run {
        let sample = |millis| Sample {
            latency: Duration::from_millis(millis),
            status: 200,
        };
        let samples: Vec<_> = (0..requests).map(sample).collect();
        let counts = Counts {
            ok: requests - undecided,
            error: undecided,
            allowed: undecided,
            over_limit: 0,
        };
        Run::new(&samples, counts, Stalls::default())
    }

    fn recovered(run: Run, after: Duration) -> Run {
        let note = String::new();
        Run {
            mended: Some(Recovery { after, note }),
            ..run
        }
    }

    #[test]
    fn what_passes_undecided_is_judged_by_medians() {
        // Of 30,000 requests 15 are forgiven.
        let pair = |without, with| (run(30_000, without), run(30_000, with));
        assert_eq!(
            judge(&[pair(0, 15), pair(2, 900), pair(5, 17)], &FULL),
            Ok(())
        );
        let error = judge(&[pair(0, 15), pair(2, 900), pair(5, 18)], &FULL).unwrap_err();
        assert!(
            error.contains("error is 18 with the fault, 2 without"),
            "{error}"
        );
        assert!(error.contains("failure_mode_allowed is 18"), "{error}");
        assert_eq!(judge(&[(run(400, 0), run(400, 5))], &SHORT), Ok(()));
        assert!(judge(&[(run(400, 0), run(400, 6))], &SHORT).is_err());
        // On a busy machine calls fail without a fault too.
        assert_eq!(judge(&[(run(400, 90), run(400, 185))], &SHORT), Ok(()));
        assert!(judge(&[(run(400, 90), run(400, 186))], &SHORT).is_err());
        let pair = |without, with| (run(400, without), run(400, with));
        assert_eq!(
            judge(&[pair(34, 126), pair(172, 120), pair(6, 3)], &SHORT),
            Ok(())
        );
    }

    #[test]
    fn other_answers_and_uncounted_calls_are_never_forgiven() {
        let mut broken = run(1_000, 0);
        broken.answers = [999, 0, 1];
        assert!(judge(&[(run(1_000, 0), broken)], &SHORT).is_err());
        let mut unasked = run(1_000, 0);
        unasked.counts.ok -= 1;
        assert!(judge(&[(unasked, run(1_000, 0))], &SHORT).is_err());
    }

    #[test]
    fn a_late_return_to_redis_is_wrong() {
        let pair = |secs| {
            let with = recovered(run(1_000, 0), Duration::from_secs(secs));
            (run(1_000, 0), with)
        };
        assert_eq!(judge(&[pair(9), pair(3), pair(1)], &FULL), Ok(()));
        assert!(judge(&[pair(9), pair(4), pair(1)], &FULL).is_err());
    }

    #[test]
    fn quantiles_are_the_least_that_enough_do_not_exceed() {
        let run = run(1_000, 0);
        let of = |per_mille| run.quantile(per_mille).as_millis();
        assert_eq!([500, 990, 999, 1_000].map(of), [499, 989, 998, 999]);
    }
}
