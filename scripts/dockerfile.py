"""Reads the Dockerfile, and makes the folder that an engine would build it in.

Used by scripts/in-build-context and scripts/check-docker.
"""
import json
import os
import re
import shutil
import subprocess

INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "ENV", "LABEL", "ARG"}
IGNORE = ".dockerignore"


def parse(problems):
    """Stages, each a list of (instruction, flags, rest); rest is a list where it is written in exec form."""
    stages = []
    with open("Dockerfile") as file:
        text = re.sub(r"\\\n", " ", "".join(line for line in file if not line.lstrip().startswith("#")))
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word not in INSTRUCTIONS:
            problems.append(f"unknown instruction {word!r}")
            continue
        flags = dict(re.findall(r"--([a-z-]+)=(\S+)", rest)) if word in {"COPY", "HEALTHCHECK"} else {}
        if flags:
            rest = re.sub(r"--[a-z-]+=\S+\s*", "", rest).strip()
        if word == "HEALTHCHECK":
            rest = rest.removeprefix("CMD").strip()
        if word in {"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"}:
            try:
                rest = json.loads(rest)
            except ValueError:
                problems.append(f"{word} {rest}: a shell form; the image has no shell")
                continue
        if word == "FROM":
            stages.append([])
        if not stages:
            problems.append(f"{word} before FROM")
            continue
        stages[-1].append((word, flags, rest))
    return stages


def every(stage, word):
    return [(flags, rest) for w, flags, rest in stage if w == word]


def allowed():
    """What .dockerignore lets through."""
    with open(IGNORE) as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    if lines[0] != "*" or not all(line.startswith("!") for line in lines[1:]):
        raise ValueError(f"{IGNORE} must exclude everything (`*`) and then name what goes in (`!src`)")
    return [line[1:] for line in lines[1:]]


def is_in(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def sources(stage):
    """The paths that a stage copies from the repository."""
    copies = [rest.split()[:-1] for flags, rest in every(stage, "COPY") if "from" not in flags]
    return [path.rstrip("/") for paths in copies for path in paths]


def commands(stage):
    """What a stage runs."""
    return [rest for _, rest in every(stage, "RUN")]


def target_directory():
    """Where cargo builds, here and in the context alike."""
    told = subprocess.run([os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1", "--no-deps"],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told)["target_directory"]


def make_context(stage):
    """The folder with what a stage copies from the repository, and no other file of it; its path.

    It is brought up to date, and files keep their times, so that cargo builds again only what has
    changed. Its `target` is that of the repository.
    """
    target = target_directory()
    context = os.path.join(target, "context")
    os.makedirs(context, exist_ok=True)
    let_through = allowed()
    wanted = {path for path in files(sources(stage)) if is_in(path, let_through)}
    for path in files(sorted(set(os.listdir(context)) - {"target"}), context):
        if path not in wanted:
            os.remove(os.path.join(context, path))
    for path in sorted(wanted):
        copy = os.path.join(context, path)
        if not is_same(path, copy):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(path, copy)
    link = os.path.join(context, "target")
    if not os.path.islink(link):
        os.symlink("..", link)
    return context


def files(paths, root="."):
    """The files that these paths are or contain."""
    for path in paths:
        whole = os.path.join(root, path)
        if not os.path.isdir(whole):
            if os.path.lexists(whole):
                yield path
            continue
        for folder, _, names in os.walk(whole):
            for name in names:
                yield os.path.relpath(os.path.join(folder, name), root)


def is_same(one, other):
    if not os.path.exists(other):
        return False
    one, other = os.stat(one), os.stat(other)
    return (one.st_size, one.st_mtime_ns, one.st_mode) == (other.st_size, other.st_mtime_ns, other.st_mode)
