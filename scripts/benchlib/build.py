"""The binaries: Tollgate as it is shipped, and what the bench has of its own (benches/)."""

import json
import os

from .machine import CORES, pinned, run, say

CARGO = os.environ.get("CARGO", "cargo")
BENCHES = ("noop", "script", "memory")


def build(tollgate=None):
    """Their paths, by name. Nothing is compiled that is up to date."""
    say("building")
    found = {}
    wanted = [argument for bench in BENCHES for argument in ("--bench", bench)]
    commands = [[CARGO, "bench", "--locked", "--no-run", *wanted]]
    if not tollgate:
        commands.append([CARGO, "build", "--release", "--locked", "--bin", "tollgate"])
    for command in commands:
        for line in run(pinned(["scripts/in-build-context", *command, "--message-format=json"], CORES)).splitlines():
            built = json.loads(line)
            if built.get("executable"):
                found[built["target"]["name"]] = built["executable"]
    if tollgate:
        found["tollgate"] = str(tollgate.resolve(strict=True))
    return found
