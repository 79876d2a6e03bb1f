"""A demo's display: live on a terminal, plain lines elsewhere, a table at the end."""

import sys
import time
from types import TracebackType
from typing import Any, Self, TextIO

import click
from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from commonweight.demo.words import describe
from protocol.types import format_tokens
from runtime.events import DataRead, Evaluated, Event, FeeLimit, Joined, Starting, Training
from runtime.progress import Line
from sponsor.config import Config


class DemoView:
    """Shows lines of progress; use it as a context manager.

    On a terminal it is drawn anew four times a second, since a step of training may take many: what
    moves then is the time.
    """

    def __init__(self, config: Config, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._rounds = config.seats.rounds
        self._rows: dict[str, Row] = {name: Row() for name in config.data.names}
        self._head: Event = Starting()
        self._round = 0
        self._losses: dict[int, float] = {}
        self._addresses: dict[str, str] = {}
        self._said: set[tuple[str, str]] = set()
        self._started = time.time()
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=4)

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
            self._live.stop()

    def show(self, line: Line) -> None:
        """Show one line of progress."""
        event = line.event
        if isinstance(event, FeeLimit):
            return  # on a devnet nothing costs anything
        # Of an earlier attempt at the run, which may have been days ago.
        self._started = min(self._started, line.time)
        self._round = max(self._round, getattr(event, "round", 0))
        if line.who in self._rows:
            self._rows[line.who].note(line)
        elif isinstance(event, Joined) and event.name is not None:
            self._addresses[event.participant] = event.name
        else:
            self._head = event
            if isinstance(event, Evaluated):
                self._losses[event.round] = event.loss
        if not self._console.is_terminal and not event.is_brief:
            self._print(line)

    def _print(self, line: Line) -> None:
        text = describe(line.event, self._addresses)
        number = getattr(line.event, "round", 0)
        # Each of Flower's processes reads a participant's data for itself.
        if isinstance(line.event, DataRead):
            if (line.who, text) in self._said:
                return
            self._said.add((line.who, text))
        seconds, place = line.time - self._started, f"round {number}" if number else ""
        # Unwrapped: the lines may be piped into a program or a file.
        self._console.print(
            f"{seconds:6.1f} s  {place:<8} {line.who:<13} {line.event.phase:<20} {text}".rstrip(),
            soft_wrap=True,
            markup=False,
        )

    def _draw(self) -> RenderableType:
        now = time.time()
        table = Table.grid(padding=(0, 2))
        for name, row in self._rows.items():
            table.add_row(Text(name, style="bold"), *row.cells(now))
        losses = "  ".join(f"{n}: {loss:.3f}" for n, loss in sorted(self._losses.items()))
        head = Text(f"round {self._round} of {self._rounds}  ", style="cyan")
        head.append(f"{self._head.phase:<24}", style=self._head.style)
        head.append(f"{now - self._started:.0f} s", style="dim")
        turning = Table.grid(padding=(0, 1))
        turning.add_row(self._spinner, head)
        return Group(turning, table, Text(f"held-out loss  {losses}"))

    # One for all drawings: a new one would begin at its first picture each time.
    _spinner = Spinner("dots", style="cyan")


class Row:
    """What a participant does, since when, and how far it has come."""

    def __init__(self) -> None:
        self._event: Event | None = None
        self._since = time.time()
        self._steps: list[float] = []  # when each step that was seen had ended
        self._loss: float | None = None

    def note(self, line: Line) -> None:
        """Take in a line of the participant's progress."""
        event = line.event
        if self._event is None or event.phase != self._event.phase:
            self._since, self._steps = line.time, []
        self._event = event
        self._loss = getattr(event, "loss", self._loss)
        if isinstance(event, Training):
            self._steps.append(line.time)

    def cells(self, now: float) -> tuple[RenderableType, ...]:
        """Return what is drawn of it: a bar or nothing, words, and the newest loss."""
        event, loss = self._event, "" if self._loss is None else f"loss {self._loss:.3f}"
        if isinstance(event, Training):
            bar = ProgressBar(total=event.steps, completed=event.step, width=20)
            return bar, f"step {event.step} of {event.steps}{self._left(event, now)}", loss
        told = Text(event.phase, style=event.style) if event else Text("waiting")
        return "", told.append(f"  {max(0, now - self._since):.0f} s", style="dim"), loss

    def _left(self, event: Training, now: float) -> str:
        """Return what the steps to come will take, once two steps have told it."""
        if len(self._steps) < 2:
            return ""
        each = (self._steps[-1] - self._steps[0]) / (len(self._steps) - 1)
        left = each * (event.steps - event.step) - (now - self._steps[-1])
        return f", {left:.0f} s left" if left >= 1 else ""


def print_result(result: dict[str, Any]) -> None:
    """Print what became of a finished demo on stdout, in at most 80 columns."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    names = result["names"]
    rounds = Table("round", "accepted", "held-out loss", "gas", "time", "model", box=SIMPLE)
    for column in rounds.columns[:-1]:
        column.justify = "right"
    rounds.add_row("0", "", _loss(result["base_loss"]), "", "", "the base model")
    for row in result["rounds"]:
        rejected = [f"{names.get(who)}: check {check}" for who, check in row["rejected"].items()]
        accepted = f"{len(row['accepted'])} of {len(row['accepted']) + len(rejected)}"
        rounds.add_row(
            str(row["round"]),
            "; ".join([accepted, *rejected]),
            _loss(row["loss"]),
            f"{row['gas']:,}",
            f"{row['seconds']} s",
            f"{row['model_cid'][:7]}…{row['model_cid'][-6:]}",
        )
    console.print(rounds)
    paid = Table("earned by", "address", "tokens", box=SIMPLE)
    paid.columns[-1].justify = "right"
    for account, units in result["paid"].items():
        paid.add_row(names.get(account, "aggregator"), account, format_tokens(units))
    console.print(paid)
    _print_answers(console, result.get("answers"))
    errors = [row["aggregation_error"] for row in result["rounds"]]
    if any(error is not None for error in errors):
        shown = ", ".join("none" if error is None else f"{error:.1%}" for error in errors)
        console.print(f"A and B, averaged apart, miss the mean of BA by {shown}")
    audit = result["audit"]
    verdict = "every check passed" if not audit["failed"] else f"{audit['failed']} FAILED"
    console.print(f"audit       {audit['checks']} checks, {verdict}")
    console.print(f"federation  {result['federation']}")
    console.print(f"files       {result['folder']}", soft_wrap=True)
    console.print("            loss.png, audit.json, result.json")


def _print_answers(console: Console, answers: dict[str, Any] | None) -> None:
    """Print the question, and what the first and the last model answer."""
    if answers is None:
        return
    told = Table.grid(padding=(0, 2))
    told.add_row("asked", answers["question"])
    told.add_row("base model", Text(answers["base"], style="dim"))
    told.add_row("fine-tuned", answers["rounds"][-1])
    console.print(told)
    console.print()


def print_next(program: str) -> None:
    """Print the commands that a user may try after a demo; `program` is how this one is called."""
    for line in (
        "\nnext; the devnet comes up again by itself, and `devnet down` ends it:",
        f"  {program} explore",
        f"  {program} model chat",
        f"  {program} model export my-adapter",
    ):
        click.echo(line)


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"
