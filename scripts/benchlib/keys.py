"""A flood of distinct keys, ten times as many as the table has room for.

One key is driven over its limit before the flood, another one while the table is full; both are asked
again after each part of the flood. Meanwhile another load asks a thousand other keys at a modest rate.
For control the same two loads go to a second server, where the first one has a thousand keys as well.
Each part of the flood is paired with a control, right before or after it. Both loads share a core, so
the one whose times count is given way to (nice).
"""

import signal
import subprocess

from .asking import load, micros, told
from .machine import LOAD_CORE, Failed, pinned, run
from .pairs import summary
from .processes import Tollgate

PARTS = 5
OTHERS_RATE = 2_000
# As shipped: store.memory.max_keys, and what README says that a key of it may take.
MAX_KEYS = 1_000_000
KEY_BYTES = 120
# Decisions a second that are expected, for the time that it takes.
EXPECTED_RATE = 120_000

POLICY = """
domain: flood
descriptors:
  - {key: visitor, rate_limit: {requests_per_unit: 1000000000, unit: hour}}
  - {key: user_id, rate_limit: {requests_per_unit: 1000000000, unit: hour}}
  # A year, so that no window ends meanwhile.
  - {key: capped, rate_limit: {requests_per_unit: 5, unit: year}}
"""


def steps(bench):
    part = max(bench.options.distinct // PARTS, 1_000)
    state = {}
    yield "flood: servers, a limited key", 2, lambda: begin(bench, state)
    cost = 2 * part / EXPECTED_RATE + 1
    for number in range(PARTS):
        yield (f"flood of distinct keys: part {number + 1} of {PARTS}", cost,
               lambda number=number: one(bench, state, number, part))
    yield "flood: what became of it", 1, lambda: end(bench, state)


def begin(bench, state):
    policies = bench.servers.folder / "flood"
    policies.mkdir()
    (policies / "flood.yaml").write_text(POLICY)
    for name in ("flooded", "control"):
        server = bench.servers.start(Tollgate(bench.tools, policies))
        state[name] = server
        # So that what a server needs for its first calls is not taken for the flood's.
        both(bench, server, ["visitor=v-%", "--keys", 1_000, "--calls", 20_000])
    state.update(base=state["flooded"].memory(), runs=[], asked=0, passed=0)
    limit(bench, state, "early")


def limit(bench, state, key):
    """Uses a key's limit up."""
    if ask(bench, state, key, 6) != OVER:
        raise Failed("a key of 5 was asked 6 times and is not over its limit")
    state.setdefault("limited", []).append(key)


def ask(bench, state, key, repeat=1):
    """The exit code of the last answer."""
    done = subprocess.run(
        pinned([bench.tools["tollgate"], "query", "--addr", state["flooded"].grpc, "flood",
                f"capped={key}", "--repeat", str(repeat)], (LOAD_CORE,)),
        stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, OVER):
        raise Failed(f"the limited key was not answered: {done.returncode}")
    return done.returncode


# How `tollgate query` ends: 0 OK, 3 OVER_LIMIT.
OVER = 3


def both(bench, server, words):
    """A load as fast as it is answered, with such words, and the other one at its rate meanwhile:
    what the first one told, and the times of the second one."""
    steady = load(bench.tools, server.grpc,
                  ["user_id=user-%", "--keys", 1_000, "--rate", OTHERS_RATE, "--connections", 2,
                   "--in-flight", 256, "--duration", "1h"], domain="flood")
    other = subprocess.Popen(steady, stdout=subprocess.PIPE, text=True)
    try:
        fast = load(bench.tools, server.grpc, [*words, "--duration", "1h"], domain="flood", nice=10)
        flood = told(run(fast), "the flood")
        other.send_signal(signal.SIGINT)
        text, _ = other.communicate(timeout=10)
    finally:
        other.kill()
    return flood, micros(told(text, "the other keys"))


def one(bench, state, number, part):
    if "runs" not in state:
        raise Failed("its servers did not start")
    flood = [f"visitor=part-{number}-%", "--keys", part, "--key-order", "sequential", "--calls", part]
    control = ["visitor=v-%", "--keys", 1_000, "--key-order", "sequential",
               "--calls", part]
    order = [("flooded", flood), ("control", control)]
    of = {name: both(bench, state[name], words)
          for name, words in (order if number % 2 == 0 else reversed(order))}
    if of["flooded"][0]["answers"] != part:
        raise Failed(f"{of['flooded'][0]['answers']} of {part} keys were asked")
    state["runs"].append(of)
    for key in state["limited"]:
        state["asked"] += 1
        state["passed"] += ask(bench, state, key) != OVER
    if number == 0:
        limit(bench, state, "late")


def end(bench, state):
    runs = state["runs"]
    if len(runs) != PARTS:
        raise Failed(f"{len(runs)} of {PARTS} parts were measured")
    server = state["flooded"]
    flooded, control = ([run[name] for run in runs] for name in ("flooded", "control"))
    bench.results["keys"] = {
        "distinct": sum(flood["answers"] for flood, _ in flooded),
        "rate": summary([flood["answers_per_second"] for flood, _ in flooded]),
        "control_rate": summary([load["answers_per_second"] for load, _ in control]),
        "live_keys": server.keys(),
        "max_keys": MAX_KEYS,
        "resident_before": state["base"],
        # The most that ever was.
        "resident": server.memory("VmHWM"),
        "ceiling": state["base"] + MAX_KEYS * KEY_BYTES,
        "limited_asked": state["asked"],
        "limited_passed": state["passed"],
        **{of: {
            "flooded": summary([times[of] for _, times in flooded]),
            "control": summary([times[of] for _, times in control]),
            "ratio": summary([ours[of] / theirs[of]
                              for (_, ours), (_, theirs) in zip(flooded, control)]),
        } for of in ("p50", "p99", "p99.9")},
    }
    for name in ("flooded", "control"):
        bench.servers.end(state[name])
