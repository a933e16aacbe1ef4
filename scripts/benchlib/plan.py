"""The parts of a run, their steps in order, and how far it is."""

import json
import pathlib
import shutil
import subprocess
import tempfile
import time

from . import axes, batch, cores, keys, reload, store
from .build import build
from .machine import Failed, describe, say, stay_away_from_the_servers
from .servers import Servers

PARTS = {
    "axes": "CPU, times and store calls on every axis",
    "store": "bytes for each key in memory, the longest sweep",
    "reload": "times during a reload of 100,000 rules",
    "cores": "what each serving core gets from 1 to 16 connections",
    "keys": "a flood of distinct keys",
    "batch": "sizes of a call to Redis",
}
STEPS = {"axes": axes, "store": store, "reload": reload, "cores": cores, "keys": keys,
         "batch": batch}
QUICK = ("axes", "store", "reload")
USUALLY = ("axes", "store", "reload", "cores", "keys")


class Bench:
    """What the steps share."""

    def __init__(self, tools, folder, options):
        self.tools, self.options = tools, options
        self.servers = Servers(tools, folder)
        self.results = {
            "machine": describe(),
            "pairs": options.pairs,
            "seconds": options.seconds,
            "failed": {},
        }


def run(options):
    """Measures, and gives back what was found. It is saved after each step."""
    if not shutil.which("redis-server"):
        raise Failed("redis-server is needed: apt-get install redis-server")
    options.pairs = options.pairs or (5 if options.quick else 7)
    wanted = options.parts or (QUICK if options.quick else USUALLY)
    tools = build(options.tollgate)
    stay_away_from_the_servers()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(tools, pathlib.Path(folder), options)
        try:
            steps = [(part, step) for part in PARTS if part in wanted
                     for step in STEPS[part].steps(bench)]
            follow(steps, bench)
        finally:
            bench.servers.stop()
    return bench.results


def follow(steps, bench):
    """One step after the other. One that fails is told, and the rest goes on."""
    guessed = sum(cost for _, (_, cost, _) in steps)
    began, done = time.monotonic(), 0.0
    for number, (part, (what, cost, action)) in enumerate(steps, 1):
        # The guesses are corrected by what the first ones took.
        pace = (time.monotonic() - began) / done if done else 1.0
        left = (guessed - done) * pace
        say(f"[{number}/{len(steps)}, about {left // 60:.0f} min {left % 60:02.0f} s left] {what}")
        try:
            action()
        except (Failed, OSError, KeyError, subprocess.SubprocessError) as why:
            say(f"  not measured: {why!r}")
            bench.results["failed"][what] = str(why)
        done += cost
        bench.results["took_seconds"] = time.monotonic() - began
        save(bench.results, bench.options.out)


def save(results, out):
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
