"""Times to the answer while 100,000 rules are read again and again, and while they are not; and how
long a changed file takes to be in force.

Three times: with as many calls in flight as everywhere else (`closed`), with server and load on all
cores (`full`: nothing is idle, and the work has to take its time from the queries), and at a modest rate,
where each call is timed from when it was due, so that those count that a reload keeps waiting. For control
the same bytes are written as often to a file that nobody reads, since the load and the writer share a core.
"""

import itertools
import math
import threading
import time

from .asking import Case, measure
from .axes import USUAL
from .machine import CORES, Failed
from .pairs import summary
from .processes import Tollgate
from .servers import MANY_RULES

# Long enough for two reloads where all cores are busy.
SECONDS = 6.0
CHANGE_EVERY = 2.0
MODEST_RATE = 5_000
# Room for all calls of a tenth of a second, so that a stall shows in their times.
MODEST = Case("5,000 calls a second", in_flight=32)
# 128 calls in flight on few connections: client and server keep both cores busy.
FULL = Case("128 calls in flight, all cores", connections=4, in_flight=32)
# The threads that read policies (src/provider/background.rs).
READER = "policies"
# The line that the server logs once policies are in force, whatever its words.
IN_FORCE = r"rules=\d+ domains=\d+ hash="
PATIENCE = 60.0

KINDS = {
    "closed": (USUAL, (), False),
    "full": (FULL, (), True),
    "modest": (MODEST, ("--rate", MODEST_RATE), False),
}


def steps(bench):
    quick = bench.options.quick
    pairs_of = {"closed": 3 if quick else bench.options.pairs, "full": 3}
    if not quick:
        pairs_of["modest"] = 3
    for kind, pairs in pairs_of.items():
        yield (f"reloads of 100,000 rules, {kind} load", pairs * 2 * (SECONDS + 1) + 4,
               lambda kind=kind, pairs=pairs: one(bench, kind, pairs))


def one(bench, kind, pairs):
    case, extra, everywhere = KINDS[kind]
    policies = bench.servers.policies(MANY_RULES)
    cores = {"cores": CORES} if everywhere else {}
    server = bench.servers.start(Tollgate(bench.tools, policies, **cores))
    file = policies / "bench.yaml"
    text = file.read_text()
    unread = bench.servers.folder / "unread.yaml"
    found = {"quiet": [], "busy": [], "reading": [], "in_force": []}

    def measured(written):
        """A run beside a writer: its figures, the CPU time of reading, seconds until in force."""
        ended, reading = threading.Event(), {}
        writer = Writer(server, written, text, ended, waits=written is file)
        beside = [writer, threading.Thread(target=look, args=(server, reading, ended))]
        for thread in beside:
            thread.start()
        try:
            run = measure(bench.tools, case, server, SECONDS, extra=extra, on_all_cores=everywhere)
        finally:
            ended.set()
            for thread in beside:
                thread.join()
        return run, sum(reading.values()) / 1e9, writer.in_force

    def quiet():
        found["quiet"].append(measured(unread)[0])

    def busy():
        run, reading, in_force = measured(file)
        found["busy"].append(run)
        found["reading"].append(reading)
        found["in_force"] += in_force

    try:
        measure(bench.tools, case, server, 1, extra=extra, on_all_cores=everywhere)
        for pair in range(pairs):
            for run in (quiet, busy) if pair % 2 == 0 else (busy, quiet):
                run()
    finally:
        bench.servers.end(server)
        file.write_text(text)
    if math.inf in found["in_force"]:
        raise Failed(f"a changed file was not in force after {PATIENCE:.0f} s")
    pairs_of = list(zip(found["quiet"], found["busy"]))
    ratio = {of: summary([busy[of] / quiet[of] for quiet, busy in pairs_of])
             for of in ("p50", "p99", "p99.9")}
    bench.results.setdefault("reload", {})[kind] = {
        "ratio": ratio,
        "quiet": {of: summary([run[of] for run in found["quiet"]]) for of in ratio},
        "busy": {of: summary([run[of] for run in found["busy"]]) for of in ratio},
        "pairs": pairs,
        "reading_seconds": summary(found["reading"]),
        "in_force_seconds": {"longest": max(found["in_force"]), **summary(found["in_force"])},
    }


class Writer(threading.Thread):
    """Changes a file again and again, as a whole, until that is ended. If the server reads the file, the
    next change comes once the last one is in force; the seconds that took are in `in_force`."""

    # Shared by all writers: a file with the same text again would not be reloaded.
    numbers = itertools.count(1)

    def __init__(self, server, file, text, ended, waits):
        super().__init__()
        self.server, self.file, self.text, self.ended = server, file, text, ended
        self.waits, self.in_force = waits, []

    def run(self):
        new = self.file.with_suffix(".new")
        while True:
            new.write_text(f"{self.text}# {next(self.numbers)}\n")
            began = time.monotonic()
            new.replace(self.file)
            if self.waits:
                # Also after the load's end, so that the next run begins with a server at rest.
                self.in_force.append(self.until_in_force(began))
            if self.ended.wait(max(began + CHANGE_EVERY - time.monotonic(), 0)):
                return

    def until_in_force(self, began):
        try:
            self.server.line(IN_FORCE, PATIENCE)
        except Failed:
            return math.inf
        return time.monotonic() - began


def look(server, reading, ended):
    """Notes what the threads that read policies have spent, in nanoseconds; most end before the run."""
    while not ended.wait(0.05):
        for number, (name, spent) in server.threads().items():
            if name == READER:
                reading[number] = spent
