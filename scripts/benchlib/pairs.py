"""Alternating pairs of runs, medians, spreads."""

import statistics

from .asking import measure

# Figures whose single runs are kept in the results, for those who doubt a median.
KEPT = ("cpu", "rate", "p50", "p99")


def spread(values):
    """Half the distance between the quartiles."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def summary(values):
    return {"median": short(statistics.median(values)), "spread": short(spread(values))}


def short(value):
    """Six digits say more than the machine does."""
    return float(f"{value:.6g}")


def compare(tools, case, name, base, server, options, redis=None):
    """Alternating pairs of runs of a server and of the one that does nothing."""
    for warm in (base, server):
        measure(tools, case, warm, options.seconds / 2)
    runs = []
    for pair in range(options.pairs):
        order = [base, server] if pair % 2 == 0 else [server, base]
        of = {one: measure(tools, case, one, options.seconds, redis if one is server else None)
              for one in order}
        runs.append((of[base], of[server]))
    return {"case": case.name, "server": name, "in_flight": case.calls(), "figures": figures(runs),
            "pairs": {of: [[short(one[of]) for one in pair] for pair in runs] for of in KEPT}}


def figures(runs):
    """Of pairs (of the do-nothing service, of the server): medians, and medians of ratios."""
    found = {}
    for figure, value in runs[0][1].items():
        if not isinstance(value, (int, float)):
            continue
        # What Redis spends is a ratio to what the do-nothing service does.
        beside = "cpu" if figure == "redis_cpu" else figure
        own = summary([ours[figure] for _, ours in runs])
        ratios = [ours[figure] / base[beside] for base, ours in runs if base[beside]]
        found[figure] = {
            **own,
            "noop": short(statistics.median(base[figure] for base, _ in runs)),
            "ratio": short(statistics.median(ratios)) if ratios else None,
            "ratio_spread": short(spread(ratios)) if ratios else None,
        }
    return found
