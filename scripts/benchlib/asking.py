"""What is asked, and one run of it."""

import json

from .machine import CORES, LOAD_CORE, Failed, pinned, run
from .processes import spent

TAIL = ("p50", "p99", "p99.9")


class Case:
    """Calls under way on so many connections, each with such descriptors of such keys.

    Sixteen connections, since with few of them a server that does little falls into one of two
    steps with the load, for a part of a second or for several: both work on the same sockets at
    once and a call takes it twice the CPU (8.6 us), or on different ones (4.5 us). Ratios of runs
    in different steps say nothing.
    """

    def __init__(self, name, connections=16, in_flight=8, descriptors=1, keys=1_000, zipf=None,
                 rules=10):
        self.name = name
        self.connections, self.in_flight = connections, in_flight
        self.descriptors, self.keys, self.zipf, self.rules = descriptors, keys, zipf, rules

    def calls(self):
        return self.connections * self.in_flight

    def words(self):
        value = "user-%" if self.keys > 1 else "user-0"
        words = [f"user_id={value}"] + [f"also_{n}={value}" for n in range(1, self.descriptors)]
        words += ["--connections", self.connections, "--in-flight", self.in_flight]
        words += ["--keys", self.keys] if self.keys > 1 else []
        words += ["--zipf", self.zipf] if self.zipf else []
        return words


def load(tools, addr, words, cores=(LOAD_CORE,), threads=1, domain="bench", nice=0):
    """The command of a load from these cores."""
    command = [tools["tollgate"], "load", "--json", "--threads", threads, "--addr", addr, domain]
    command = ["nice", "-n", nice, *command] if nice else command
    return pinned([str(word) for word in [*command, *words]], cores)


def told(text, name):
    """What a load told, if every call was answered."""
    answer = json.loads(text)
    if answer["errors"] or not answer["answers"]:
        raise Failed(f"{name}: calls came to nothing: {answer['errors'] or 'none was made'}")
    if answer["not_made"]:
        # Their times would be missing, and they would have been the longest.
        raise Failed(f"{name}: {answer['not_made']} calls had no place, so their times are not known")
    return answer


def micros(answer):
    return {name: seconds * 1e6 for name, seconds in answer["latency_seconds"]["quantiles"].items()}


def measure(tools, case, server, seconds, redis=None, extra=(), on_all_cores=False):
    """One run: CPU in microseconds for each decision, and times as they were told."""
    # To be asked for metrics costs a server something, too, so that is not between the looks.
    calls = server.store_calls()
    cores, threads = ((CORES, min(len(CORES), case.connections)) if on_all_cores
                      else ((LOAD_CORE,), 1))
    command = load(tools, server.grpc, ["--duration", f"{seconds}s", *case.words(), *extra], cores,
                   threads)
    before, redis_before = server.threads(), redis.threads() if redis else {}
    text = run(command)
    after, redis_after = server.threads(), redis.threads() if redis else {}
    answer = told(text, case.name)
    answers, by_thread = answer["answers"], spent(before, after)
    return {
        "cpu": sum(by_thread.values()) / answers * 1e6,
        "redis_cpu": sum(spent(redis_before, redis_after).values()) / answers * 1e6,
        "store_calls": (server.store_calls() - calls) / answers,
        "rate": answer["answers_per_second"],
        "threads": {name: round(cpu / seconds, 4) for name, cpu in sorted(by_thread.items())},
        **micros(answer),
    }


def fill(tools, case, server):
    """Asks for each of a case's keys once, so that none of them is new when it is measured."""
    words = [*case.words(), "--key-order", "sequential", "--calls", case.keys, "--duration", "5m"]
    zipf = words.index("--zipf") if "--zipf" in words else None
    if zipf is not None:
        del words[zipf:zipf + 2]
    told(run(load(tools, server.grpc, words)), f"{case.name}: filling")
