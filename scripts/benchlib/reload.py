"""Times to the answer while 100,000 rules are read again and again, and while they are not.

Twice: with as many calls under way as everywhere else, which is what the budget is for, and at a
modest rate, where each call is timed from when it was due, so that those count that a reload keeps
waiting. Policies are read when queries leave time for it, so perhaps not to the end in a run: what counts
is that a run has some of that work in it, and how much is told. For control the same bytes are written as often to a file that nobody reads, since the load
and the writer share a core.
"""

import threading
import time

from .asking import Case, measure
from .axes import USUAL
from .machine import Failed
from .pairs import summary
from .processes import Tollgate
from .servers import MANY_RULES

# Long enough for some reloads on a core that the load keeps busy.
SECONDS = 6.0
CHANGE_EVERY = 2.0
MODEST_RATE = 5_000
# Room for all calls of a tenth of a second, so that a stall shows in their times.
MODEST = Case("5,000 calls a second", in_flight=32)
# The threads that read policies (src/provider/patient.rs).
READER = "patient"
LEAST_READING = 0.2
SETTLE = 2.0
PATIENCE = 30.0


def steps(bench):
    kinds = {"closed": (bench.options.pairs if not bench.options.quick else 3, ())}
    if not bench.options.quick:
        kinds["modest"] = (3, ("--rate", MODEST_RATE))
    for kind, (pairs, extra) in kinds.items():
        yield (f"reloads of 100,000 rules, {kind} load", pairs * 2 * (SECONDS + SETTLE) + 4,
               lambda kind=kind, extra=extra, pairs=pairs: one(bench, kind, extra, pairs))


def one(bench, kind, extra, pairs):
    case = USUAL if kind == "closed" else MODEST
    policies = bench.servers.policies(MANY_RULES)
    server = bench.servers.start(Tollgate(bench.tools, policies))
    file = policies / "bench.yaml"
    text = file.read_text()
    unread = bench.servers.folder / "unread.yaml"
    found = {"quiet": [], "busy": [], "reading": []}

    def measured(written):
        ended, reading = threading.Event(), {}
        beside = [threading.Thread(target=rewrite, args=(written, text, ended)),
                  threading.Thread(target=look, args=(server, reading, ended))]
        for thread in beside:
            thread.start()
        try:
            return measure(bench.tools, case, server, SECONDS, extra=extra), reading
        finally:
            ended.set()
            for thread in beside:
                thread.join()

    def quiet():
        found["quiet"].append(measured(unread)[0])

    def busy():
        before = server.reloads()
        run, reading = measured(file)
        found["busy"].append(run)
        found["reading"].append(sum(reading.values()) / 1e9)
        # What was written last is read before the next run.
        settle(server, before)

    try:
        measure(bench.tools, case, server, 1, extra=extra)
        for pair in range(pairs):
            for run in (quiet, busy) if pair % 2 == 0 else (busy, quiet):
                run()
    finally:
        bench.servers.end(server)
        file.write_text(text)
    if min(found["reading"]) < LEAST_READING:
        raise Failed("hardly any policies were read while calls were made")
    pairs_of = list(zip(found["quiet"], found["busy"]))
    ratio = {of: summary([busy[of] / quiet[of] for quiet, busy in pairs_of])
             for of in ("p50", "p99", "p99.9")}
    bench.results.setdefault("reload", {})[kind] = {
        "ratio": ratio,
        "quiet": {of: summary([run[of] for run in found["quiet"]]) for of in ratio},
        "busy": {of: summary([run[of] for run in found["busy"]]) for of in ratio},
        "pairs": pairs,
        "reading_seconds": summary(found["reading"]),
    }


def settle(server, before):
    """Waits until policies have been read since `before`, and are not read any more. They are read
    when there is time for it, so perhaps only after the load."""
    patience = time.monotonic() + PATIENCE
    while server.reloads() == before and time.monotonic() < patience:
        time.sleep(0.1)
    seen = -1
    while seen != (now := server.reloads()):
        seen = now
        time.sleep(SETTLE)


def look(server, reading, ended):
    """Notes what the threads that read policies have spent, in nanoseconds; most end before the run."""
    while not ended.wait(0.05):
        for number, (name, spent) in server.threads().items():
            if name == READER:
                reading[number] = spent


def rewrite(file, text, ended):
    """Changes a file again and again, as a whole, until that is ended."""
    new = file.with_suffix(".new")
    number = 0
    while not ended.wait(CHANGE_EVERY):
        number += 1
        new.write_text(f"{text}# {number}\n")
        new.replace(file)
