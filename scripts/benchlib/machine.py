"""The machine: its cores, commands on them, what it is."""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target" / "bench"
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
# The load is what keeps a core busy; Redis is asked in batches, so it can share that one if it must.
REDIS_CORE = CORES[1] if len(CORES) > 2 else LOAD_CORE


class Failed(Exception):
    """What could not be measured, and why."""


def say(what):
    print(what, file=sys.stderr, flush=True)


def pinned(command, cores):
    """The command, on these cores and no others."""
    if len(CORES) == 1 or not shutil.which("taskset"):
        return command
    return ["taskset", "-c", ",".join(map(str, cores)), *command]


def stay_away_from_the_servers():
    """Moves this program to the load's core. What it starts says for itself where it runs."""
    os.sched_setaffinity(0, {LOAD_CORE})


def run(command, **options):
    """Runs a command to its end, and gives back what it printed."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True, check=False, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def describe():
    """For whoever reads the figures later."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", text)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                            capture_output=True, check=False)
    redis = run(["redis-server", "--version"])
    return {
        "processor": model.group(1) if model else "unknown processor",
        "cores": len(CORES),
        "kernel": platform.release(),
        "redis": re.search(r"v=(\S+)", redis).group(1),
        "commit": commit.stdout.strip() or "unknown",
    }
