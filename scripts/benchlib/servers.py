"""Which servers a run has. Each starts when it is first asked for, and ends with the run."""

import socket

from .machine import CORES
from .processes import Noop, Redis, Tollgate

FEW_RULES, MANY_RULES = 10, 100_000
# The axis of a million keys leaves them room: what a full table does is the part `keys`.
ROOM = {"TOLLGATE_STORE__MEMORY__MAX_KEYS": "1500000"}


class Servers:
    def __init__(self, tools, folder):
        self.tools, self.folder = tools, folder
        self.started, self.kept, self.ports, self.written = [], {}, {}, {}

    def start(self, process):
        """One that ends with the run, or with `end`."""
        self.started.append(process)
        return process

    def end(self, process):
        self.started.remove(process)
        process.stop()

    def stop(self):
        for process in self.started:
            process.stop()

    def keep(self, name, make):
        if name not in self.kept:
            self.kept[name] = self.start(make())
        return self.kept[name]

    def noop(self):
        return self.keep("noop", lambda: Noop(self.tools))

    def redis(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        port = self.ports.setdefault("redis", port)
        return self.keep("redis", lambda: Redis(port, self.folder))

    def memory(self, rules=FEW_RULES):
        return self.keep(f"memory {rules}", lambda: Tollgate(
            self.tools, self.policies(rules), settings=ROOM))

    def shared(self, rules=FEW_RULES):
        self.redis()
        return self.keep(f"shared {rules}", lambda: Tollgate(
            self.tools, self.policies(rules), self.ports["redis"]))

    def on_all_cores(self):
        return self.keep("cores", lambda: Tollgate(
            self.tools, self.policies(FEW_RULES), cores=CORES))

    def policies(self, rules):
        """A folder of so many rules, of which a request meets one for each descriptor."""
        if rules in self.written:
            return self.written[rules]
        folder = self.folder / f"rules-{rules}"
        folder.mkdir()
        limit = "rate_limit: {requests_per_unit: 1000000000, unit: hour}"
        lines = ["domain: bench", "descriptors:"]
        lines += [f"  - {{key: user_id, {limit}}}"]
        lines += [f"  - {{key: also_{n}, {limit}}}" for n in range(1, 10)]
        lines += [f"  - {{key: path, value: /p/{n}, {limit}}}" for n in range(rules - 10)]
        (folder / "bench.yaml").write_text("\n".join(lines) + "\n")
        self.written[rules] = folder
        return folder
