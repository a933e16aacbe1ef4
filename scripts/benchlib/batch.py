"""How many checks a call to Redis should hold at most (queue.batch_size): every size in turn, in each
round, so that what the machine does meanwhile is shared by all."""

from .asking import Case, measure
from .pairs import figures
from .processes import Tollgate
from .servers import FEW_RULES

SIZES = (16, 32, 64, 128, 256, 512)
CASES = (Case("128 calls in flight"), Case("512 calls in flight", in_flight=32))


def steps(bench):
    options = bench.options
    cost = (len(SIZES) + 1) * (options.seconds + 0.25)
    for case in CASES:
        yield (f"batch sizes, {case.name}", (options.pairs + 1) * cost,
               lambda case=case: one(bench, case))


def server(bench, size):
    bench.servers.redis()
    return bench.servers.keep(f"batch {size}", lambda: Tollgate(
        bench.tools, bench.servers.policies(FEW_RULES), bench.servers.ports["redis"],
        settings={"TOLLGATE_QUEUE__BATCH_SIZE": str(size)}))


def one(bench, case):
    noop, redis = bench.servers.noop(), bench.servers.redis()
    servers = {size: server(bench, size) for size in SIZES}
    runs = {size: [] for size in SIZES}
    for of in servers.values():
        measure(bench.tools, case, of, bench.options.seconds / 2)
    for turn in range(bench.options.pairs):
        base = measure(bench.tools, case, noop, bench.options.seconds)
        # Each is first in some round.
        for size in SIZES[turn % len(SIZES):] + SIZES[:turn % len(SIZES)]:
            runs[size].append((base, measure(
                bench.tools, case, servers[size], bench.options.seconds, redis)))
    for size in SIZES:
        bench.results.setdefault("batch", []).append(
            {"case": case.name, "size": size, "figures": figures(runs[size])})
