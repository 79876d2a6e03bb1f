"""Puts the tables of benchmarks/results/*.json into the pages that show them, between their marks.

    python -m benchmarks.tables

A mark is `<!-- medical -->` … `<!-- end -->`. Where there is no result yet, the page says so.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common import RESULTS

_DOCS: Final = Path(__file__).parents[1] / "docs"
PAGES: Final = (_DOCS / "results.md", _DOCS / "incentives.md")
Results = dict[str, Any]
_MODELS: Final = ("base", "alone", "centralised", "centralised, wide", "federated")
_RATIOS: Final = {
    "federated_under_base": "federated under base",
    "federated_over_centralised": "over centralised",
    "federated_over_wide": "over centralised, wide",
    "alone_over_federated": "alone over federated",
}


def main() -> None:
    """Rewrite the pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text(), RESULTS))


def filled(page: str, results: Path) -> str:
    """Return the page with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        file = results / f"{name}.json"
        known = TABLES[name](json.loads(file.read_text())) if file.exists() else None
        body = known or f"Not run in full yet: there is no `benchmarks/results/{name}.json`."
        return f"<!-- {name} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def medical_table(results: Results) -> str:
    """Return losses, ratios and scores of answers by split, with the deviation over seeds."""
    losses, ratios, answers = [], [], []
    for split, found in results["summary"].items():
        seeds = sum(each["split"] == split for each in results["runs"])
        losses.append([split, str(seeds), *(_pair(found["loss"][name]) for name in _MODELS)])
        ratios.append([split, *(_percent(found[name]) for name in _RATIOS)])
        for name in ("base", "centralised", "federated"):
            scores = [_pair(found[figure][name]) for figure in ("rouge_l", "exact_match")]
            answers.append([split, name, *scores])
    first = results["runs"][0]
    ratio = first["bytes_full_fine_tuning"] / first["bytes_an_update"]
    tables = [
        _table(["split", "seeds", *_MODELS], losses),
        _table(["split", *_RATIOS.values()], ratios),
        _table(["split", "model", "ROUGE-L", "exact match"], answers),
        f"An update is {first['bytes_an_update'] / 1e6:.2f} MB, full fine-tuning would send "
        f"{first['bytes_full_fine_tuning'] / 1e6:.0f} MB: {ratio:.0f} times as much. "
        f"{_machine(results)}",
    ]
    return "\n\n".join(tables)


def glue_table(results: Results) -> str:
    """Return the last round's figures beside the published ones."""
    rows = []
    for name, found in results["summary"].items():
        for scheme, published in results["published"][name].items():
            figures = found[scheme]
            rows.append(
                [
                    name,
                    scheme,
                    _pair(figures["accuracy"]),
                    f"{published:.4f}",
                    _pair(figures["matthews"]),
                    _pair(figures["loss"]),
                    f"{figures['seconds']['mean']:.1f}",
                    f"{figures['bytes']['mean'] / 1e6:.2f}",
                ]
            )
        rows.append([name, "majority class", f"{found['majority']:.4f}", *[""] * 5])
        rows.append([name, "teacher", _pair(found["teacher"]), *[""] * 5])
    head = ["set", "scheme", "accuracy", "published", "Matthews", "loss", "s a round", "MB a round"]
    return f"{_table(head, rows)}\n\n{_machine(results)}"


def differences_table(results: Results) -> str:
    """Return the last losses by interval of the grid, with zeros and clipped values of updates."""
    rows = [
        [
            "never" if every == "0" else every,
            _pair(found["exact"]),
            _pair(found["differences"]),
            f"{found['over_exact']['mean']:+.2%}",
            f"{found['last_zeros']['mean']:.1%}",
            f"{found['most_clipped']:.2%}",
        ]
        for every, found in results["summary"].items()
    ]
    head = ["a bit finer every", "FedAvg, float32", "differences", "over it", "zeros", "clipped"]
    return f"{_table(head, rows)}\n\n{_machine(results)}"


def overhead_table(results: Results) -> str:
    """Return the seconds of a round, and where ours goes in the last run."""
    rows = [
        [
            str(each["steps"]),
            str(each["seed"]),
            *(f"{each[name]:.1f}" for name in ("ours", "plain_flower")),
            f"{each['ours'] - each['plain_flower']:.1f}",
            f"{each['ratio']:.3f}",
        ]
        for each in results["runs"]
    ]
    newest = results["runs"][-1]
    went = [[name, f"{seconds:.2f}"] for name, seconds in newest["parts"].items()]
    does = [[name, f"{seconds:.2f}"] for name, seconds in newest["participant"].items()]
    does.append(["train, under plain Flower", f"{newest['plain_train']:.2f}"])
    first = _table(["steps", "seed", "ours, s", "plain Flower, s", "more, s", "ratio"], rows)
    second = _table([f"a round of {newest['steps']} steps, by the aggregator's line", "s"], went)
    third = _table(["of it what one participant does", "s"], does)
    tables = [first, second, third, _machine(results)]
    if "bytes" in newest:
        sizes = newest["bytes"], newest["plain_bytes"]
        ours, plain = (f"{e['update'] / 1e6:.2f} MB and {e['model'] / 1e6:.2f} MB" for e in sizes)
        tables.insert(1, f"An update and a model are {ours} of ours, {plain} of plain Flower.")
    return "\n\n".join(tables)


def vram_table(results: Results) -> str:
    """Return GB by model: estimated, measured if it was, and Flower's own."""
    rows = [
        [
            name,
            f"{row['estimate_gb']:.1f}",
            f"{row['peak_gb']:.1f}" if "peak_gb" in row else "no GPU",
            f"{row['flower_gb']:.1f}",
            f"{row['tokens_a_second']:,.0f}" if "tokens_a_second" in row else "",
        ]
        for name, row in results["rows"].items()
    ]
    return _table(["model", "estimate, GB", "measured, GB", "Flower's table, GB", "tokens/s"], rows)


def incentives_table(results: Results) -> str:
    """Return what each cheat is paid, what it is seen by, and what it leaves to the honest."""
    found: dict[str, Results] = {}
    for row in results["summary"]:
        found.setdefault(row["cheat"], {})[row["way"]] = row
    ways = [way for way in ("equal", "whole", "new") if any(way in each for each in found.values())]

    def across(rows: Results, figure: str, form: str) -> str:
        return " / ".join(format(rows[way][figure], form) if way in rows else "" for way in ways)

    lines = []
    for cheat, rows in found.items():
        first = next(iter(rows.values()))
        checks = ", ".join(str(check) for check in first["checks"] if check)
        seen = [f"{first['similar']:.2f}" if first["similar"] else "", checks]
        pay = "" if cheat == "none" else across(rows, "pay", ".0%")
        left = [across(rows, "honest", ".2f"), across(rows, "least", ".2f")]
        lines.append([cheat, *seen, pay, f"{first['worse']:+.1%}", *left])
    each = " / ".join(f"`{way}`" for way in ways)
    head = ["cheat", "cosine", "check", f"pay, {each}", "final loss", "honest", "least over best"]
    seeds = sorted({run["seed"] for run in results["runs"]})
    said = f"{results['rounds']} rounds, seed {', '.join(map(str, seeds))}."
    return f"{_table(head, lines)}\n\n{said} {_machine({'machine': results['machine']})}"


TABLES: Final[dict[str, Callable[[Results], str]]] = {
    "medical": medical_table,
    "glue": glue_table,
    "differences": differences_table,
    "incentives": incentives_table,
    "overhead": overhead_table,
    "vram": vram_table,
}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pair(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.4f} ± {figure['deviation']:.4f}"


def _percent(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.1%} ± {figure['deviation']:.1%}"


def _machine(results: Results) -> str:
    machine = results["machine"]
    taken = f", {results['seconds'] / 60:.0f} min in all" if "seconds" in results else ""
    return f"{machine['cpu']}, {machine['cores']} cores{taken}."


if __name__ == "__main__":
    main()
