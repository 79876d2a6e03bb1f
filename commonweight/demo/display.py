"""A demo's display: live on a terminal, plain lines elsewhere, a table at the end."""

import sys
import time
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from protocol.types import format_tokens
from runtime.events import Evaluated, Event, Joined, Starting, Training, Waiting
from runtime.progress import Line
from sponsor.config import Config


class DemoView:
    """Shows lines of progress; use it as a context manager."""

    def __init__(self, config: Config, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._names = config.data.names
        self._rounds = config.seats.rounds
        self._rows: dict[str, Event | None] = dict.fromkeys(self._names)
        self._head: Event = Starting()
        self._round = 0
        self._losses: dict[int, float] = {}
        self._addresses: dict[str, str] = {}
        self._started = time.monotonic()
        self._live = Live(self._draw(), console=self._console, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.update(self._draw(), refresh=True)
            self._live.stop()

    def show(self, line: Line) -> None:
        """Show one line of progress."""
        event = line.event
        self._round = max(self._round, getattr(event, "round", 0))
        if line.who in self._rows:
            self._rows[line.who] = event
        elif isinstance(event, Joined) and event.name is not None:
            self._addresses[event.participant] = event.name
        else:
            self._head = event
            if isinstance(event, Evaluated):
                self._losses[event.round] = event.loss
        if self._console.is_terminal:
            self._live.update(self._draw())
        elif not event.is_brief:
            # The reason of an accepted update is empty.
            facts = {name: value for name, value in event.facts().items() if value != ""}
            shown = "  ".join(f"{key} {self._fact(value)}" for key, value in facts.items())
            seconds = time.monotonic() - self._started
            # Unwrapped: the lines may be piped into a program or a file.
            self._console.print(
                f"{seconds:6.1f} s  {line.who:<13} {event.phase:<20} {shown}", soft_wrap=True
            )

    def _draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name in self._names:
            event = self._rows[name]
            bar: RenderableType = Text("")
            if isinstance(event, Training):
                bar = ProgressBar(total=event.steps, completed=event.step, width=24)
            loss = getattr(event, "loss", None)
            table.add_row(
                Text(name, style="bold"),
                Text(event.phase, style=event.style) if event else Waiting.phase,
                bar,
                "" if loss is None else f"loss {loss:.3f}",
            )
        losses = "  ".join(f"{n}: {loss:.3f}" for n, loss in sorted(self._losses.items()))
        seconds = time.monotonic() - self._started
        head = Text(f"round {self._round}/{self._rounds}  ", style="cyan")
        head.append(self._head.phase, style=self._head.style).append(f"  {seconds:.0f} s")
        return Group(head, table, Text(f"held-out loss  {losses}"))

    def _fact(self, value: object) -> str:
        if isinstance(value, float):
            return f"{value:.4f}"
        # Participants by their names, which only this machine knows.
        return self._addresses.get(str(value), str(value))


def print_result(result: dict[str, Any]) -> None:
    """Print the table of a finished demo on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    names = result["names"]
    rounds = Table("round", "accepted", "held-out loss", "gas", "seconds", "model CID")
    rounds.columns[-1].overflow = "fold"  # a truncated CID is useless
    rounds.add_row("0", "", _loss(result["base_loss"]), "", "", "the base model")
    for row in result["rounds"]:
        rejected = [f"{names.get(who)}: check {check}" for who, check in row["rejected"].items()]
        accepted = f"{len(row['accepted'])} of {len(row['accepted']) + len(rejected)}"
        rounds.add_row(
            str(row["round"]),
            "; ".join([accepted, *rejected]),
            _loss(row["loss"]),
            f"{row['gas']:,}",
            str(row["seconds"]),
            row["model_cid"],
        )
    console.print(rounds)
    paid = Table("earned by", "address", "tokens")
    for account, units in result["paid"].items():
        paid.add_row(names.get(account, "aggregator"), account, format_tokens(units))
    console.print(paid)
    errors = [row["aggregation_error"] for row in result["rounds"]]
    if any(error is not None for error in errors):
        shown = ", ".join("none" if error is None else f"{error:.1%}" for error in errors)
        console.print(
            f"averaging A and B separately missed the mean of BA by {shown}, round by round"
        )
    audit = result["audit"]
    verdict = "every check passed" if not audit["failed"] else f"{audit['failed']} FAILED"
    console.print(f"audit       {audit['checks']} checks, {verdict}")
    console.print(f"federation  {result['federation']}")
    console.print(f"files       {result['folder']} (loss.png, audit.json, result.json)")


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"
