"""Tables for people, in Markdown, of what was found. A part that was not measured has none."""

from . import draw
from .budgets import budgets, verdict


def write(results, out):
    """Writes the report and the curves, and gives back the former."""
    out.mkdir(parents=True, exist_ok=True)
    text = report(results)
    (out / "bench.md").write_text(text)
    for name, picture in draw.pictures(results).items():
        (out / name).write_text(picture)
    return text


def report(results):
    sections = [machine(results), verdicts(results), axes(results), script(results), store(results),
                reload(results), cores(results), keys(results), batch(results), failed(results)]
    return "\n".join(section for section in sections if section)


def table(columns, rows):
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def times(ratio, noise=None):
    """A ratio, and how far it is to be trusted."""
    if ratio is None:
        return ""
    return f"x {ratio:.2f}" + (f" ± {noise:.2f}" if noise is not None else "")


def machine(results):
    of = results["machine"]
    took = f", {results['took_seconds'] / 60:.0f} minutes" if "took_seconds" in results else ""
    return (f"{of['processor']}, {of['cores']} cores, Linux {of['kernel']}, Redis {of['redis']}, "
            f"commit {of['commit']}{took}. Medians of alternating pairs of runs, {results['pairs']} of "
            f"{results['seconds']:g} s on the axes; ± is half the distance between the pairs' "
            "quartiles.\n")


def verdicts(results):
    rows = []
    for budget in budgets(results):
        unit = f" {budget.unit}" if budget.unit not in ("", "x") else ""
        noise = f" ± {budget.noise:.2g}" if budget.noise else ""
        rows.append([budget.name, f"{budget.measured:.3g}{noise}{unit}", f"{budget.most:g}{unit}",
                     verdict(budget)])
    return table(["budget", "measured", "at most", ""], rows) if rows else ""


def axes(results):
    rows, seen = [], set()
    for row in results.get("cases", []):
        figures = row["figures"]
        if row["case"] not in seen:
            seen.add(row["case"])
            base = {name: figure["noop"] for name, figure in figures.items()}
            rows.append([row["case"], "noop", f"{base['cpu']:.2f}", "", f"{base['rate']:,.0f}",
                         f"{base['p50']:,.0f}", f"{base['p99']:,.0f}", f"{base['p99.9']:,.0f}", ""])
        rows.append(["", row["server"], cell(figures["cpu"], ".2f"),
                     cell(figures["redis_cpu"], ".2f"), cell(figures["rate"], ",.0f"),
                     cell(figures["p50"], ",.0f"), cell(figures["p99"], ",.0f"),
                     cell(figures["p99.9"], ",.0f"), calls(figures)])
    if not rows:
        return ""
    return table(["", "server", "CPU us", "Redis' CPU us", "decisions/s", "p50 us", "p99 us",
                  "p99.9 us", "store calls"], rows) + (
        "\nFor each decision, and as a ratio to what noop, measured right before or after, takes. One "
        "axis at a time: what a line does not name is as in the first one. 16 connections but for one "
        "call in flight and where it says so.\n")


def cell(figure, how):
    """A median and its ratio; nothing for what a server does not have."""
    if not figure["median"]:
        return ""
    return f"{figure['median']:{how}} ({times(figure['ratio'], figure['ratio_spread'])})"


def calls(figures):
    return f"{figures['store_calls']['median']:.3f}" if figures["store_calls"]["median"] else ""


def script(results):
    if not (found := results.get("script")):
        return ""
    p50, p99, rate = found["p50"], found["p99"], found["rate"]
    return (f"The script alone, one call after the other to that Redis: p50 {p50['median']:.0f} us "
            f"({times(p50['ratio'])} of noop's call), p99 {p99['median']:.0f} us "
            f"({times(p99['ratio'])}), {rate['median']:,.0f} a second, Redis' CPU "
            f"{found['redis_cpu']['median']:.1f} us.\n")


def store(results):
    rows = [[algorithm, f"{of['keys']:,}", f"{of['bytes_per_key']:.0f}",
             f"{of['longest_sweep_us']['median']:,.0f} ± {of['longest_sweep_us']['spread']:,.0f}",
             f"{of['median_sweep_us']['median']:,.0f}"]
            for algorithm, of in results.get("store", {}).items()]
    return table(["memory store", "keys", "bytes for each", "longest sweep of a shard us",
                  "median us"], rows) if rows else ""


def reload(results):
    what = {"closed": "128 calls in flight", "full": "128 calls in flight, all cores busy",
            "modest": "5,000 calls a second"}
    rows = []
    for kind, of in results.get("reload", {}).items():
        for share, ratio in of["ratio"].items():
            rows.append([what[kind], share, f"{of['quiet'][share]['median']:,.0f}",
                         f"{of['busy'][share]['median']:,.0f}",
                         times(ratio["median"], ratio["spread"]), str(of["pairs"]),
                         f"{of['reading_seconds']['median']:.1f}",
                         f"{of['in_force_seconds']['median']:.1f}, at most "
                         f"{of['in_force_seconds']['longest']:.1f}"])
    return table(["reloads of 100,000 rules", "", "without us", "with us", "", "pairs of 6 s",
                  "CPU s of reading in a run", "s until in force"],
                 rows) if rows else ""


def cores(results):
    rows = []
    for row in results.get("cores", []):
        ours, noop = row["tollgate"], row["noop"]
        whole = sum(row["serving"]) or 1
        rows.append([str(row["connections"]),
                     " + ".join(f"{busy:.2f}" for busy in row["serving"]),
                     " + ".join(f"{100 * busy / whole:.0f}%" for busy in row["serving"]),
                     f"{row['others']:.2f}", f"{ours['cpu']:.2f} ({times(ours['cpu'] / noop['cpu'])})",
                     f"{ours['rate']:,.0f} ({times(ours['rate'] / noop['rate'])})",
                     f"{ours['p99']:,.0f} ({times(ours['p99'] / noop['p99'])})"])
    if not rows:
        return ""
    return table(["connections", "cores that each serving thread used", "its share", "other threads",
                  "CPU us for each decision", "decisions/s", "p99 us"], rows) + (
        "\n128 calls in flight over so many connections to a server with a serving thread for each "
        "core, pinned to none, beside noop on tokio's multi-thread runtime. The load generator has "
        "the same cores, so neither is the most that the server could do.\n")


def keys(results):
    if not (found := results.get("keys")):
        return ""
    mega = lambda size: f"{size / 1e6:,.0f} MB"
    rows = [[of, f"{found[of]['control']['median']:,.0f}", f"{found[of]['flooded']['median']:,.0f}",
             times(found[of]["ratio"]["median"], found[of]["ratio"]["spread"])]
            for of in ("p50", "p99", "p99.9")]
    return table(["other keys, 2,000 calls a second", "control us", "in the flood us", ""], rows) + (
        f"\n{found['distinct']:,} distinct keys at {found['rate']['median']:,.0f} decisions a second "
        f"(control: 1,000 keys at {found['control_rate']['median']:,.0f}) into a table of "
        f"{found['max_keys']:,}: {found['live_keys']:,.0f} live at the end; resident memory "
        f"{mega(found['resident_before'])} before, {mega(found['resident'])} at most, ceiling "
        f"{mega(found['ceiling'])}; keys over their limit were asked {found['limited_asked']} times "
        f"and let through {found['limited_passed']} times.\n")


def batch(results):
    rows = []
    for row in results.get("batch", []):
        of = row["figures"]
        rows.append([row["case"], str(row["size"]), cell(of["cpu"], ".2f"),
                     cell(of["redis_cpu"], ".2f"), cell(of["rate"], ",.0f"), cell(of["p50"], ",.0f"),
                     cell(of["p99"], ",.0f"), cell(of["p99.9"], ",.0f"), calls(of)])
    return table(["", "batch_size", "CPU us", "Redis' CPU us", "decisions/s", "p50 us", "p99 us",
                  "p99.9 us", "store calls"], rows) if rows else ""


def failed(results):
    return "".join(f"NOT MEASURED: {what}: {why}\n" for what, why in results.get("failed", {}).items())
