"""Geometry of the charts: numbers to places in an SVG, which the templates draw.

Plain SVG in the page needs no program to be seen, follows the colours of dark and light, is read
out by its title, and can be printed.
"""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any, Final

WIDTH: Final = 480
HEIGHT: Final = 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 14, 26
_STACK_HEIGHT: Final = 72
_TICKS: Final = 4
_BAR: Final = 1000


def line(points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return a line through (round, value) points: path, dots, and ticks of both axes."""
    rounds, values = [n for n, _ in points], [value for _, value in points]
    steps = _round_steps(min(values), max(values))
    low, high = steps[0], steps[-1]
    first, span = rounds[0], max(rounds[-1] - rounds[0], 1)

    def x(number: float) -> float:
        return round(_LEFT + (number - first) / span * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    path = " ".join(
        f"{'M' if i == 0 else 'L'}{x(n)} {y(value)}" for i, (n, value) in enumerate(points)
    )
    base = HEIGHT - _BOTTOM
    every = max(1, ceil(len(rounds) / 8))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "base": base,
        "path": path,
        "area": f"{path} L{x(rounds[-1])} {base} L{x(first)} {base} Z",
        # Of many rounds the line says enough.
        "dots": [{"x": x(n), "y": y(v), "round": n, "value": v} for n, v in points]
        if len(points) <= 40
        else [],
        "rows": [{"y": y(step), "label": f"{step:g}"} for step in steps],
        "columns": [{"x": x(n), "label": n} for n in rounds[::every]],
    }


def stacks(rows: Sequence[tuple[int, Sequence[tuple[str, int]]]]) -> dict[str, Any]:
    """Return one stacked bar for each round: (round, parts from below, each with its key)."""
    highest = max((sum(count for _, count in parts) for _, parts in rows), default=0) or 1
    step = _BAR / max(len(rows), 30)
    boxes = []
    for place, (number, parts) in enumerate(rows):
        top = float(_STACK_HEIGHT)
        for key, count in parts:
            height = count / highest * _STACK_HEIGHT
            top -= height
            if count:
                at = {"x": round(place * step, 1), "width": round(step * 0.78, 1)}
                size = {"y": round(top, 1), "height": round(height, 1)}
                boxes.append({"key": key, "round": number, "count": count, **at, **size})
    return {"width": _BAR, "height": _STACK_HEIGHT, "boxes": boxes}


def bars(parts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return one bar's segments, of 1,000 units in all: key, place, width and share in percent."""
    total = sum(max(amount, 0) for _, amount in parts)
    found, at = [], 0.0
    for key, amount in parts:
        if amount <= 0:
            continue
        width = amount / total * _BAR
        share = round(amount / total * 100, 1)
        found.append({"key": key, "x": round(at, 2), "width": round(width, 2), "share": share})
        at += width
    return found


def _round_steps(low: float, high: float) -> list[float]:
    """Return about four round values, the first at most `low` and the last at least `high`."""
    spread = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(spread / _TICKS))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power * _TICKS >= spread)
    first = floor(low / step)
    count = max(ceil(high / step) - first, 1)
    return [round((first + i) * step, 10) for i in range(count + 1)]
