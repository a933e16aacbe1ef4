"""What the design allows, and the verdicts. Each budget is a ratio where one makes sense: absolute
times mean nothing on shared machines."""

import collections
import math

from .axes import ALONE, MANY, USUAL

Budget = collections.namedtuple("Budget", "name measured noise most unit")


def verdict(budget):
    if budget.measured <= budget.most:
        return "met"
    if budget.measured <= budget.most + budget.noise:
        return "within the noise"
    return "NOT MET"


def budgets(results):
    """Those that these results can tell."""
    return [*of_axes(results), *of_store(results), *of_reload(results), *of_keys(results)]


def of_axes(results):
    def figure(case, server, name):
        for row in results.get("cases", []):
            if row["case"] == case.name and row["server"] == server:
                return row["figures"][name]
        return None

    def ratio(name, figure, most):
        return [Budget(name, figure["ratio"], figure["ratio_spread"], most, "x")] if figure else []

    yield from ratio("memory: CPU for each decision, x noop", figure(USUAL, "memory", "cpu"), 1.1)
    yield from ratio("Redis: CPU for each decision, x noop", figure(USUAL, "redis", "cpu"), 1.5)
    yield from ratio("Redis: Redis' own CPU, x noop's", figure(USUAL, "redis", "redis_cpu"), 0.8)
    if calls := figure(USUAL, "redis", "store_calls"):
        yield Budget("Redis: script calls for each decision", calls["median"], calls["spread"], 0.05, "")
    yield from ratio("memory: p50 with one call in flight, x noop", figure(ALONE, "memory", "p50"), 1.15)
    yield from ratio("Redis: p50 with one call in flight, x noop", figure(ALONE, "redis", "p50"), 2.2)
    few, many = figure(USUAL, "memory", "cpu"), figure(MANY, "memory", "cpu")
    if few and many:
        noise = math.hypot(few["ratio_spread"], many["ratio_spread"]) / few["ratio"]
        yield Budget("100,000 rules: CPU of a whole call, x 10 rules",
                     many["ratio"] / few["ratio"], noise, 1.5, "x")
    if match := results.get("match"):
        yield Budget("100,000 rules: instructions of a match, x 10 rules (make count-instructions)",
                     match, 0.0, 1.5, "x")
    if start := results.get("start_seconds"):
        yield Budget("100,000 rules: start until ready", start["median"], start["spread"], 1.0, "s")


def of_store(results):
    store = results.get("store", {})
    for algorithm in ("fixed_window", "token_bucket"):
        if algorithm in store:
            yield Budget(f"memory: bytes for each key, {algorithm}",
                         store[algorithm]["bytes_per_key"], 0.0, 120, "B")
    if store:
        slowest = max(store, key=lambda name: store[name]["longest_sweep_us"]["median"])
        longest = store[slowest]["longest_sweep_us"]
        yield Budget(f"memory: longest pause of a sweep ({slowest})", longest["median"] / 1e3,
                     longest["spread"] / 1e3, 1.0, "ms")


def of_reload(results):
    names = {"closed": "100,000 rules", "full": "100,000 rules, all cores busy"}
    for kind, name in names.items():
        if not (found := results.get("reload", {}).get(kind)):
            continue
        p99 = found["ratio"]["p99"]
        yield Budget(f"{name}: p99 during a reload, x control", p99["median"], p99["spread"],
                     1.5, "x")
        if in_force := found.get("in_force_seconds"):
            yield Budget(f"{name}: a changed file in force, at the latest", in_force["longest"], 0.0,
                         5.0, "s")


def of_keys(results):
    if keys := results.get("keys"):
        flood = f"{keys['distinct']:,} distinct keys"
        yield Budget(f"{flood}: resident memory, x the ceiling",
                     keys["resident"] / keys["ceiling"], 0.0, 1.0, "x")
        yield Budget(f"{flood}: a limited key let through, of {keys['limited_asked']} times",
                     keys["limited_passed"], 0.0, 0, "")
        p99 = keys["p99"]["ratio"]
        yield Budget(f"{flood}: p99 of other keys, x control", p99["median"], p99["spread"], 1.5, "x")
