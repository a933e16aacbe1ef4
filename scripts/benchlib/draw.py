"""Curves as SVG: times to the answer by percentile, and cost by the number of calls in flight."""

import math
from xml.sax.saxutils import escape

SERVERS = ("noop", "memory", "redis")
# Told apart without colours too: each has dashes of its own.
STYLES = {
    "noop": ("#6b7280", ""),
    "memory": ("#0072b2", ""),
    "redis": ("#d55e00", "7 3"),
    "Redis itself": ("#009e73", "2 3"),
}
SHARES = ("p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99")
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 60, 40


def pictures(results):
    """By name of the file; none without what it shows."""
    rows = [row for row in results.get("cases", [])
            if "in flight" in row["case"] and row["server"] in SERVERS]
    loads = sorted({row["in_flight"] for row in rows})
    of = {(row["in_flight"], row["server"]): row["figures"] for row in rows}
    return {"latency.svg": latency(loads, of), "cost.svg": cost(loads, of)} if rows else {}


def latency(loads, of):
    panels = []
    for load in loads:
        lines = lines_of([load], of, lambda figures, key: [figures[share][key] for share in SHARES])
        lines = {name: values[0] for name, values in lines.items()}
        calls = "1 call" if load == 1 else f"{load} calls"
        panels.append(panel(f"Time to the answer, {calls} in flight, us", SHARES, lines, True))
    return page(panels)


def cost(loads, of):
    ticks = [str(load) for load in loads]
    cpu = lines_of(loads, of, lambda figures, key: figures["cpu"][key])
    redis = [of[load, "redis"]["redis_cpu"]["median"] for load in loads if (load, "redis") in of]
    if len(redis) == len(loads):
        cpu["Redis itself"] = redis
    rate = lines_of(loads, of, lambda figures, key: figures["rate"][key])
    return page([panel("CPU for each decision by calls in flight, us", ticks, cpu, False),
                 panel("Decisions a second by calls in flight", ticks, rate, False)])


def lines_of(loads, of, value):
    """The values of each server at each load. What noop took stands beside those of each server."""
    lines = {}
    for name in SERVERS:
        beside, key = (("memory", "noop") if name == "noop" else (name, "median"))
        if all((load, beside) in of for load in loads):
            lines[name] = [value(of[load, beside], key) for load in loads]
    return lines


def scale(values, logarithmic):
    """The marks of an axis that holds these values, and where on it (0 to 1) a value lies."""
    if logarithmic:
        low = math.floor(math.log10(max(min(values), 1e-9)))
        high = max(math.ceil(math.log10(max(values))), low + 1)
        marks = [10.0**n for n in range(low, high + 1)]
        return marks, lambda value: (math.log10(max(value, 10.0**low)) - low) / (high - low)
    most = max(max(values), 1e-9) * 1.05
    step = 10.0 ** math.floor(math.log10(most / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if most / (step * factor) <= 6)
    return [step * n for n in range(int(most / step) + 1)], lambda value: value / most


def panel(title, ticks, lines, logarithmic):
    """One set of axes with its lines, at the origin."""
    every = [value for values in lines.values() for value in values]
    marks, place = scale(every, logarithmic)
    step = (WIDTH - LEFT - RIGHT) / max(len(ticks) - 1, 1)
    x = lambda n: LEFT + n * step
    y = lambda value: HEIGHT - BOTTOM - place(value) * (HEIGHT - BOTTOM - TOP)
    parts = [f'<text x="10" y="20" font-size="13" font-weight="bold">{escape(title)}</text>']
    for mark in marks:
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" '
                     'stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:,.10g}</text>')
    for n, tick in enumerate(ticks):
        parts.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" '
                     f'font-size="11">{escape(tick)}</text>')
    for n, (name, values) in enumerate(lines.items()):
        colour, dashes = STYLES[name]
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in enumerate(values))
        line = f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        parts.append(f'<polyline points="{points}" fill="none" {line}/>')
        at = LEFT + 95 * n
        parts.append(f'<line x1="{at}" x2="{at + 22}" y1="40" y2="40" {line}/>')
        parts.append(f'<text x="{at + 27}" y="44">{escape(name)}</text>')
    return parts


def page(panels):
    """The panels, two in a row."""
    rows = (len(panels) + 1) // 2
    across = min(len(panels), 2) * WIDTH
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {rows * HEIGHT}" '
             'font-family="sans-serif" font-size="12" fill="#111827">',
             f'<rect width="{across}" height="{rows * HEIGHT}" fill="#ffffff"/>']
    for n, lines in enumerate(panels):
        parts.append(f'<g transform="translate({n % 2 * WIDTH} {n // 2 * HEIGHT})">')
        parts += [*lines, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"
