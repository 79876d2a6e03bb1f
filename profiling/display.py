"""Tables of a profile, at most 100 columns wide."""

import sys
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

WIDTH: Final = 100
SLOWEST: Final = 5
_FIGURES: Final = ("times", "seconds", "MB in", "MB out", "MB/s", "peak MB")


def print_profile(described: dict[str, Any], all_layers: bool = False) -> None:
    """Print a profile on stdout: phases, the slowest layers or all, communication."""
    # Where there is no terminal rich would assume 80 columns.
    width = min(Console(file=sys.stdout).width, WIDTH) if sys.stdout.isatty() else WIDTH
    console = Console(file=sys.stdout, highlight=False, width=width)

    # 1. One row per phase of a role. Parts of a phase ("verify: fetch") are indented under it, and
    # a role is named in its first row only.
    table = Table("role", "phase")
    _add_figures(table)
    role = ""
    for row in described["phases"]:
        name = row["phase"] + (f" ({row['failed']} failed)" if row["failed"] else "")
        if ": " in name:
            name = "  " + name.partition(": ")[2]
        table.add_row("" if row["role"] == role else row["role"], name, *_figures(row))
        role = row["role"]
    console.print(table)

    # 2. Layers.
    _print_layers(described["layers"], console, all_layers)

    # 3. Communication, beside what full fine-tuning would have sent.
    found = described["communication"]
    used, full = found["used_bytes"], found["full_weight_bytes"]
    if found["participants"]:
        console.print(
            f"communication  {_mib(used)} MiB of tensors to and from {found['participants']} "
            f"participants, of FlowerTune's {_mib(found['budget_bytes'], 0)}"
        )
    if full is not None:
        console.print(
            f"full weights   {_mib(full)} MiB would have been sent: {found['base_weights']:,} "
            f"weights in the same encoding, {full / used:,.1f} times as much"
        )
    sent, received = _mib(found["sent_by_all"]), _mib(found["received_by_all"])
    console.print(
        f"all roles      {sent} MiB sent to IPFS, {received} MiB received, including manifests"
    )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return each name without the first and last dotted words that all names share."""
    words = {name: name.split(".") for name in names}
    first, last = _shared(list(words.values())), 0
    # The end is compared after the beginning was cut off, so that no word is cut off twice.
    if len(words) > 1:
        last = _shared([list(reversed(each[first:])) for each in words.values()])
    return {name: ".".join(each[first : len(each) - last]) for name, each in words.items()}


def _shared(lists: Sequence[Sequence[str]]) -> int:
    """Return how many words all lists begin with, leaving at least one word of each."""
    if len(lists) < 2:
        return 0
    shortest = min(len(each) for each in lists)
    count = 0
    while count < shortest - 1 and len({each[count] for each in lists}) == 1:
        count += 1
    return count


def _print_layers(rows: Sequence[dict[str, Any]], console: Console, all_of_them: bool) -> None:
    # Shortened over all roles, so that a layer has the same name in each of the tables.
    names = short_names([row["layer"] for row in rows])
    for role in dict.fromkeys(row["role"] for row in rows):
        own = [row for row in rows if row["role"] == role]
        if all_of_them or len(own) <= SLOWEST:
            shown, title = own, f"layers, {role}"
        else:
            shown = sorted(own, key=lambda row: -row["seconds"])[:SLOWEST]
            title = f"layers, {role}: the {SLOWEST} slowest of {len(own)}; --layers shows all"
        table = Table("phase", "layer", title=title, title_justify="left")
        table.columns[1].overflow = "fold"  # a layer's name has no spaces to break at
        _add_figures(table)
        for row in shown:
            table.add_row(row["phase"], names[row["layer"]], *_figures(row))
        console.print(table)


def _add_figures(table: Table) -> None:
    for name in _FIGURES:
        table.add_column(name, justify="right")


def _figures(row: dict[str, Any]) -> list[str]:
    rate = row["bytes_per_second"]
    return [
        str(row["times"]),
        f"{row['seconds']:,.3f}",
        _megabytes(row["bytes_in"]),
        _megabytes(row["bytes_out"]),
        # Three digits: rates range from kilobytes to gigabytes a second.
        "" if rate is None else f"{rate / 1e6:,.0f}" if rate >= 1e8 else f"{rate / 1e6:.3g}",
        f"{row['peak_bytes'] / 1e6:,.0f}",
    ]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.3f}" if count else ""


def _mib(count: int, digits: int = 2) -> str:
    return f"{count / 2**20:,.{digits}f}"
