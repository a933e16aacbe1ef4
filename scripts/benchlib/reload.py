"""Times to the answer while 100,000 rules are read again and again, and while they are not.

Twice: with as many calls under way as everywhere else, which is what the budget is for, and at a
modest rate, where each call is timed from when it was due, so that those count that a reload keeps
waiting. For control the same bytes are written as often to a file that nobody reads, since the load
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
MODEST = Case("5,000 calls a second")
SETTLE = 2.0
PATIENCE = 30.0


def steps(bench):
    pairs = min(bench.options.pairs, 3)
    kinds = {"closed": ()}
    if not bench.options.quick:
        kinds["modest"] = ("--rate", MODEST_RATE)
    for kind, extra in kinds.items():
        yield (f"reloads of 100,000 rules, {kind} load", pairs * 2 * (SECONDS + SETTLE) + 4,
               lambda kind=kind, extra=extra: one(bench, kind, extra, pairs))


def one(bench, kind, extra, pairs):
    case = USUAL if kind == "closed" else MODEST
    policies = bench.servers.policies(MANY_RULES)
    server = bench.servers.start(Tollgate(bench.tools, policies))
    file = policies / "bench.yaml"
    text = file.read_text()
    unread = bench.servers.folder / "unread.yaml"
    found = {"quiet": [], "busy": [], "reloads": []}

    def measured(written):
        ended = threading.Event()
        writer = threading.Thread(target=rewrite, args=(written, text, ended))
        writer.start()
        try:
            return measure(bench.tools, case, server, SECONDS, extra=extra)
        finally:
            ended.set()
            writer.join()

    def quiet():
        found["quiet"].append(measured(unread))

    def busy():
        before = server.reloads()
        found["busy"].append(measured(file))
        # What was written last is read before the next run, and counted with this one.
        settle(server, before)
        found["reloads"].append(server.reloads() - before)

    try:
        measure(bench.tools, case, server, 1, extra=extra)
        for pair in range(pairs):
            for run in (quiet, busy) if pair % 2 == 0 else (busy, quiet):
                run()
    finally:
        bench.servers.end(server)
        file.write_text(text)
    if not all(found["reloads"]):
        raise Failed("the policies were not read anew while calls were made")
    pairs_of = list(zip(found["quiet"], found["busy"]))
    ratio = {of: summary([busy[of] / quiet[of] for quiet, busy in pairs_of])
             for of in ("p50", "p99", "p99.9")}
    bench.results.setdefault("reload", {})[kind] = {
        "ratio": ratio,
        "quiet": {of: summary([run[of] for run in found["quiet"]]) for of in ratio},
        "busy": {of: summary([run[of] for run in found["busy"]]) for of in ratio},
        "reloads_a_run": sum(found["reloads"]) / len(found["reloads"]),
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


def rewrite(file, text, ended):
    """Changes a file again and again, as a whole, until that is ended."""
    new = file.with_suffix(".new")
    number = 0
    while not ended.wait(CHANGE_EVERY):
        number += 1
        new.write_text(f"{text}# {number}\n")
        new.replace(file)
