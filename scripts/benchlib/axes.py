"""CPU, times and store calls, one axis at a time around the usual case; and the script alone."""

import json

from .asking import Case, fill
from .machine import LOAD_CORE, ROOT, Failed, pinned, run
from .pairs import compare, summary
from .processes import Noop, Tollgate
from .servers import MANY_RULES

USUAL = Case("128 calls in flight, 1 descriptor, 1,000 keys, 10 rules")
ALONE = Case("1 call in flight", connections=1, in_flight=1)
MANY = Case("100,000 rules", rules=MANY_RULES)
CASES = [
    USUAL,
    ALONE,
    Case("16 calls in flight", in_flight=1),
    Case("512 calls in flight", in_flight=32),
    Case("4 connections, 32 calls on each", connections=4, in_flight=32),
    Case("2 descriptors", descriptors=2),
    Case("10 descriptors", descriptors=10),
    Case("1 key", keys=1),
    Case("1,000 keys by Zipf's law, 1.1", zipf=1.1),
    Case("1,000,000 keys", keys=1_000_000),
    Case("1,000,000 keys by Zipf's law, 1.1", keys=1_000_000, zipf=1.1),
    MANY,
]
# What a run takes beside its length: the load starts, metrics are read.
RUN_OVERHEAD = 0.25
STARTS = 5


def steps(bench):
    """(what, seconds that it takes, how)."""
    options = bench.options
    cost = (2 * options.pairs + 1) * (options.seconds + RUN_OVERHEAD)
    if not options.quick:
        yield "noop on tokio's multi-thread runtime", cost, lambda: multi(bench)
    for case in [USUAL, ALONE, MANY] if options.quick else CASES:
        servers = ["memory"] if case is MANY and options.quick else ["memory", "redis"]
        for name in servers:
            filling = 25 if case.keys >= 1_000_000 and not case.zipf else 0
            yield (f"{case.name}: {name}", cost + filling,
                   lambda case=case, name=name: one(bench, case, name))
        if case is ALONE:
            yield "the script alone", 2 * options.seconds, lambda: script(bench)
    yield "start with 100,000 rules", STARTS, lambda: start(bench)
    yield "instructions of a match", 0, lambda: match(bench)


def one(bench, case, name):
    servers = bench.servers
    redis = servers.redis() if name == "redis" else None
    server = servers.shared(case.rules) if redis else servers.memory(case.rules)
    if case.keys >= 1_000_000 and not case.zipf:
        fill(bench.tools, case, server)
    row = compare(bench.tools, case, name, servers.noop(), server, bench.options, redis)
    bench.results.setdefault("cases", []).append(row)


def multi(bench):
    """The same service on the other runtime, for those who know that one's figures."""
    server = bench.servers.start(Noop(bench.tools, "multi"))
    row = compare(bench.tools, USUAL, "noop, multi-thread", bench.servers.noop(), server,
                  bench.options)
    bench.servers.end(server)
    bench.results.setdefault("cases", []).append(row)


def script(bench):
    """One call after the other to the same script on the same Redis, with nothing around it."""
    redis = bench.servers.redis()
    alone = next((row for row in bench.results.get("cases", []) if row["case"] == ALONE.name), None)
    if not alone:
        raise Failed("there is no case of one call in flight to compare with")
    addr = f"127.0.0.1:{bench.servers.ports['redis']}"
    before = sum(spent for _, spent in redis.threads().values())
    told = json.loads(run(pinned(
        [bench.tools["script"], addr, str(2 * bench.options.seconds)], (LOAD_CORE,))))
    after = sum(spent for _, spent in redis.threads().values())
    figures = {
        "redis_cpu": (after - before) / told["calls"] / 1e3,
        "rate": told["calls"] / told["seconds"],
        **{name: told[f"{name}_us"] for name in ("p50", "p99", "p99.9")},
    }
    beside = {name: alone["figures"][name]["noop"] for name in figures if name != "redis_cpu"}
    bench.results["script"] = {
        name: {"median": value, "ratio": value / beside[name] if name in beside else None}
        for name, value in figures.items()
    }


def start(bench):
    """From the start of the process to its being ready, the rules read."""
    times = []
    for _ in range(STARTS):
        server = bench.servers.start(Tollgate(bench.tools, bench.servers.policies(MANY_RULES)))
        times.append(server.start_seconds)
        bench.servers.end(server)
    bench.results["start_seconds"] = summary(times)


def match(bench):
    """What a match among 100,000 rules costs beside one among ten: of a whole call it is too small a
    part to be measured there. scripts/count-instructions counts it, and CI holds it."""
    lines = (ROOT / "benches" / "instructions.tsv").read_text().splitlines()
    counted = dict(line.split("\t") for line in lines if not line.startswith("#"))
    bench.results["match"] = int(counted["match-100000-rules"]) / int(counted["match-10-rules"])
