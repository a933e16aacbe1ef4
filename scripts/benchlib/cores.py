"""What each serving core gets from 1, 2, 4 and 16 connections.

The server has all cores and one serving thread for each, and is pinned to none. A connection stays on
the thread that it was given to. The load has the same cores, so the decisions of a second are not what
the server could do alone: CPU for each decision and the threads' shares are what this is about.
"""

import re
import statistics

from .asking import Case, measure
from .machine import CORES
from .processes import Noop

CONNECTIONS = (1, 2, 4, 16)
CALLS = 128
SECONDS = 2.0


def steps(bench):
    runs = min(bench.options.pairs, 3)
    for connections in CONNECTIONS:
        yield (f"all cores, {connections} connections", (2 * runs + 1) * (SECONDS + 0.25),
               lambda connections=connections: one(bench, connections, runs))


def one(bench, connections, runs):
    case = Case(f"{connections} connections", connections, CALLS // connections)
    server = bench.servers.on_all_cores()
    noop = bench.servers.keep("noop on all cores", lambda: Noop(bench.tools, "multi", CORES))
    found = {"tollgate": [], "noop": []}
    measure(bench.tools, case, server, SECONDS / 2, on_all_cores=True)
    for run in range(runs):
        order = [("tollgate", server), ("noop", noop)]
        for name, of in order if run % 2 == 0 else reversed(order):
            found[name].append(measure(bench.tools, case, of, SECONDS, on_all_cores=True))
    serving = [sorted((busy for thread, busy in run["threads"].items()
                       if re.fullmatch(r"grpc-\d+", thread)), reverse=True)
               for run in found["tollgate"]]
    row = {
        "connections": connections,
        # How many cores' worth of CPU each serving thread used, the busiest first.
        "serving": [statistics.median(busy) for busy in zip(*serving)],
        "others": statistics.median(
            sum(run["threads"].values()) - sum(busy)
            for run, busy in zip(found["tollgate"], serving)),
    }
    for name, figures in found.items():
        row[name] = {of: statistics.median(run[of] for run in figures)
                     for of in ("cpu", "rate", "p50", "p99")}
    bench.results.setdefault("cores", []).append(row)
