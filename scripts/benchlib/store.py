"""The memory store by itself (benches/memory.rs): bytes for each key, the longest sweep."""

import json

from .machine import LOAD_CORE, Failed, pinned, run
from .pairs import summary

ALGORITHMS = ("fixed_window", "token_bucket", "sliding_window", "sliding_log")
SECONDS_A_ROUND = 1.2


def steps(bench):
    rounds = 3 if bench.options.quick else 7
    for algorithm in ALGORITHMS:
        yield (f"a million keys in memory: {algorithm}", rounds * SECONDS_A_ROUND,
               lambda algorithm=algorithm: one(bench, algorithm, rounds))


def one(bench, algorithm, rounds):
    told = json.loads(run(pinned([bench.tools["memory"], algorithm, str(rounds)], (LOAD_CORE,))))
    if not told["longest_sweep_us"]:
        raise Failed("every sweep was interrupted")
    bench.results.setdefault("store", {})[algorithm] = {
        "keys": told["keys"],
        "bytes_per_key": told["bytes"] / told["keys"],
        "longest_sweep_us": summary(told["longest_sweep_us"]),
        "median_sweep_us": summary(told["median_sweep_us"]),
        "shards": told["shards"],
        "interrupted_sweeps": told["interrupted_sweeps"],
    }
