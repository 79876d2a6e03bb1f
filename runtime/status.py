"""What the `status` of every role shows: its process and the newest round.

Read from the chain; the state folder only adds whether the process runs and its last line.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from contracts.enums import Status
from ethereum.wallet import keystore_address
from protocol.errors import Misconfigured
from protocol.types import Address, RoundId
from runtime.progress import DOING
from runtime.service import is_held
from runtime.settings import RoleSettings
from storage.files import read_json

# What the newest round waits for, whoever asks. The other phases show counts instead.
_FOR_ALL: Final = {
    Status.SEAL: "the aggregator looks at what was revealed, and seals the set that is summed",
    Status.VOID: "the sum was not opened, or is objected to: anybody can end the round",
    Status.PROPOSE: "the aggregator screens and averages",
    Status.EXPIRED: "the aggregator is late: anybody can hand the round on",
    Status.CHALLENGE: "a model is proposed: it can be challenged",
    Status.SETTLEABLE: "the challenge window is over: anybody can settle the round",
    Status.FINALIZED: "no round is open",
    Status.ABANDONED: "no round is open",
    Status.NONE: "no round was opened yet",
    Status.SEED: "anybody can draw the participants from the next block on",
    Status.UNSEEDED: "nobody drew participants in time: anybody can abandon the round",
}


def open_federation(settings: RoleSettings) -> tuple[Federation, Address]:
    """Return the federation of a role's settings, at one mined block, and the role's address."""
    # The address is in the keystore in plain text: `status` needs no password.
    location = FederationLocation.load(settings.federation)
    return connect_federation(location).now(), keystore_address(settings.keystore)


def describe_process(settings: RoleSettings) -> dict[str, Any]:
    """Return whether the role's process runs, and its last line of progress."""
    # A lock, not a process id: ids are used again, and the lock goes with its process.
    path = settings.state / DOING
    last = None
    with suppress(Misconfigured):  # it only informs, and may be damaged
        found = read_json(path) if path.exists() else None
        last = found if isinstance(found, dict) and "phase" in found else None
    return {"running": is_held(settings.state), "last_line": last}


def describe_round(federation: Federation, newest: RoundId, own_part: str | None) -> dict[str, Any]:
    """Return where the newest round stands; `own_part` is this role's part in it."""
    status = federation.status(newest) if newest else Status.NONE
    facts = federation.get_round(newest) if newest else None
    general = "the federation is over" if federation.is_over() else _FOR_ALL.get(status)
    deadline = counts = None
    if facts is not None:
        masked = federation.get_sum(newest)
        opened = f"{masked.unmasked} of {masked.size} opened what the sum needs"
        deadline = {
            Status.COMMIT: facts.commit_deadline,
            Status.REVEAL: facts.reveal_deadline,
            Status.SEAL: facts.propose_deadline,
            Status.UNMASK: masked.unmask_deadline,
            Status.ASSIST: masked.assist_deadline,
            Status.PROPOSE: facts.propose_deadline,
            Status.CHALLENGE: facts.challenge_deadline,
        }.get(status)
        room = facts.expected(federation.terms().seats)
        counts = {
            Status.COMMIT: f"{facts.committed} committed, there is room for {room}",
            Status.REVEAL: f"{facts.revealed} of {facts.committed} revealed",
            Status.UNMASK: opened,
            Status.ASSIST: f"{opened}, shares of the others' are wanted",
        }.get(status)
    # By the chain's clock, which decides. Nothing moves a round on by itself, so 0 may last.
    left = None if deadline is None else max(0, deadline - federation.next_time())
    doing = "; ".join(text for text in (own_part, counts or general) if text)
    return {"round": newest, "phase": status.name.lower(), "seconds_left": left, "doing": doing}


def print_process(status: dict[str, Any], line: Callable[[str], object]) -> None:
    """Print the process and the newest round through `line`."""
    now, last = status["now"], status["last_line"]
    left = "" if now["seconds_left"] is None else f", {duration(now['seconds_left'])} left"
    line(f"now          round {now['round']}, {now['phase']}{left}: {now['doing']}")
    told = ""
    if last is not None:
        facts = " ".join(f"{k}={v}" for k, v in last.items() if k not in ("time", "who", "phase"))
        told = f"; its last line: {last['phase']} {facts}".rstrip()
    line(f"process      {'running' if status['running'] else 'not running'}{told}")


def duration(seconds: int) -> str:
    """Return `seconds` as a person says it: 45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if seconds < 120:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    if days < 2:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24} h"
