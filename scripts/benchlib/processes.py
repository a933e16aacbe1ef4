"""Servers of ours: started, watched, asked what they have cost, ended."""

import collections
import os
import pathlib
import queue
import re
import subprocess
import threading
import time
import urllib.request

from .machine import REDIS_CORE, SERVER_CORE, Failed, pinned

# Longer than any of them takes to start, 100,000 rules on a busy machine included.
PATIENCE = 60.0


class Process:
    """A process on cores of its choice."""

    def __init__(self, command, cores, environment=None):
        self.name = pathlib.Path(command[0]).name
        # What is set for another Tollgate is not meant for this one.
        inherited = {key: value for key, value in os.environ.items()
                     if not key.startswith("TOLLGATE_")}
        self.child = subprocess.Popen(
            pinned([str(word) for word in command], cores), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**inherited, **(environment or {})},
        )
        self.lines = queue.Queue()
        self.last = collections.deque(maxlen=20)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        """Reads all that it says, so that it never waits for a reader."""
        for line in self.child.stdout:
            self.last.append(line)
            self.lines.put(line)
        self.lines.put(None)

    def line(self, pattern, patience=PATIENCE):
        """Waits for a line, and gives back what the pattern finds in it."""
        until = time.monotonic() + patience
        while True:
            try:
                line = self.lines.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                raise Failed(f"{self.name} did not say `{pattern}` within {patience:.0f} s:\n"
                             + "".join(self.last)) from None
            if line is None:
                raise Failed(f"{self.name} ended before it said `{pattern}`:\n{''.join(self.last)}")
            if found := re.search(pattern, line):
                return found

    def threads(self):
        """Nanoseconds of CPU so far of each thread: by number, with its name."""
        found = {}
        for task in pathlib.Path(f"/proc/{self.child.pid}/task").iterdir():
            try:
                spent = int((task / "schedstat").read_text().split()[0])
                found[task.name] = ((task / "comm").read_text().strip(), spent)
            except OSError:
                # It ended between the two looks.
                pass
        return found

    def memory(self, field="VmRSS"):
        """Bytes: VmRSS what is resident, VmHWM the most that ever was."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", status).group(1)) * 1024

    def stop(self):
        """It has nothing to lose: at once."""
        self.child.kill()
        self.child.wait()


def spent(before, after):
    """Seconds of CPU between two looks at the threads of a process, by the threads' names. One that
    has ended meanwhile takes nothing off: what it spent since the first look is not known."""
    seconds = collections.Counter()
    for number, (name, now) in after.items():
        _, then = before.get(number, (name, 0))
        seconds[name] += (now - then) / 1e9
    return seconds


class Redis(Process):
    def __init__(self, port, folder):
        super().__init__(
            ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", folder], (REDIS_CORE,))
        self.line("Ready to accept connections")


class Noop(Process):
    """The service that answers OK and does nothing."""

    def __init__(self, tools, runtime="current", cores=(SERVER_CORE,)):
        super().__init__([tools["noop"], runtime], cores)
        self.grpc = self.line(r"(127\.0\.0\.1:\d+)").group(1)

    def store_calls(self):
        return 0


class Tollgate(Process):
    """Tollgate at its defaults, but for listeners on free ports, and threads for the cores it has."""

    def __init__(self, tools, policies, redis_port=None, cores=(SERVER_CORE,), settings=None):
        command = [tools["tollgate"], "serve", "--policies", policies]
        for listener in ("--grpc", "--http", "--admin"):
            command += [listener, "127.0.0.1:0"]
        command += ["--redis", f"redis://127.0.0.1:{redis_port}/0"] if redis_port else []
        started = time.monotonic()
        super().__init__(command, cores, {"TOLLGATE_THREADS": str(len(cores)), **(settings or {})})
        ready = self.line(r"ready .*grpc=(\S+) http=(\S+) ")
        self.start_seconds = time.monotonic() - started
        self.grpc, self.http = ready.group(1), ready.group(2)

    def sum(self, series):
        """What series that begin so count together."""
        with urllib.request.urlopen(f"http://{self.http}/metrics") as answer:
            text = answer.read().decode()
        return sum(map(int, re.findall(rf"^{series}[^ ]* (\d+)$", text, re.M)))

    def store_calls(self):
        return self.sum(r'tollgate_store_calls_total\{operation="decide"')

    def keys(self):
        return self.sum("tollgate_store_keys")
