"""A whole masked round beside a clear one: seconds of each step, bytes and gas of each participant.

    python -m benchmarks.masked_rounds      (`make bench-masked-rounds`; --participants 4 16 32)
    python -m benchmarks.masked_rounds --participants 32 --kinds silent     (adds to what is there)

Real roles on anvil and the dev IPFS daemon, one after the other on this machine, with updates of
the demo's adapter; training alone is replaced by drawn numbers. Steps of everybody are summed up
and told per participant. `silent`: a third of the set posts no secrets, and the others recover
them. Results go to benchmarks/results/masked-rounds.json.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.common import RESULTS, write_results
from contracts.enums import Status
from protocol.spec import Spec
from protocol.types import RoundId
from tests.masked.world import MaskedWorld
from tests.world import World, small_spec

# The demo's adapter: rank 16 on the attention's four projections of 30 blocks of SmolLM2-135M.
_LAYERS: Final = {"q_proj": 576, "k_proj": 192, "v_proj": 192, "o_proj": 576}
_WIDTH, _RANK, _BLOCKS = 576, 16, 30
_GENEROUS_S: Final = 100_000
_KINDS: Final = ("clear", "masked", "silent")
_NAME: Final = "masked-rounds"


def main() -> None:
    """Play a round of each kind and size, and write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--participants", type=int, nargs="+", default=[4, 16, 32])
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    rows = {(row["participants"], row["kind"]): row for row in known_rows(options.out)}
    for count in options.participants:
        for kind in options.kinds:
            if kind == "silent" and count < 6:
                continue  # among up to five all peers are needed
            rows[count, kind] = play(count, kind)
            print(line_of(rows[count, kind]), flush=True)
            # At once: the largest take minutes each.
            write_results(options.out, _NAME, {"rows": [rows[key] for key in sorted(rows)]})


def known_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of an earlier run, some of which may be measured again."""
    path = folder / f"{_NAME}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return found


def play(count: int, kind: str) -> dict[str, Any]:
    """Play one round of `count` participants; return its times, bytes and gas."""
    names = tuple(f"p{number:02d}" for number in range(count))
    steps: dict[str, float] = {}
    windows = {"commit_seconds": _GENEROUS_S, "reveal_seconds": _GENEROUS_S}
    changes: dict[str, Any] = {
        **windows,
        "propose_seconds": _GENEROUS_S,
        "unbonding_seconds": 10 * _GENEROUS_S,
        "max_participants": 64,
        "round_target": 64,
        "round_seats": 32,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world: World = (
            World(folder, names=names, spec=demo_like("clear"), **changes)
            if kind == "clear"
            else MaskedWorld(folder, names=names, spec=demo_like("masked"), **changes)
        )
        with world:
            round_id = world.open_round()
            silent = names[: count // 3] if kind == "silent" else ()
            with timed(steps, "commit"):
                world.ask("commit", round_id)
            with timed(steps, "reveal"):
                world.ask("reveal", round_id)
            if isinstance(world, MaskedWorld):
                _open(world, round_id, silent, steps)
            with timed(steps, "propose"):
                world.aggregator.propose(round_id)
            if isinstance(world, MaskedWorld):
                with timed(steps, "check sum"):
                    world.act("object", round_id, *silent)
            with timed(steps, "audit"):
                failed = [check for check in world.audit() if check.passed is False]
            assert not failed, failed[0].line()
            told = world.told(round_id)
            gas = _gas(world, round_id)
    size = world.spec.total_bytes(world.spec.update_kind)
    per = {"commit", "reveal", "unmask", "assist", "check sum"}
    active = count - len(silent)
    seconds = {
        step: round(taken / (active if step in per else 1), 3) for step, taken in steps.items()
    }
    return {
        "participants": count,
        "kind": kind,
        "load": round(os.getloadavg()[0], 1),
        "seconds": seconds,
        "bytes": size,
        "gas": gas,
        "members": len(told.masking.members),
    }


def _open(
    world: MaskedWorld, round_id: RoundId, silent: tuple[str, ...], steps: dict[str, float]
) -> None:
    with timed(steps, "seal"):
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
    with timed(steps, "unmask"):
        world.act("unmask", round_id, *silent)
    if silent:
        world.travel_to(world.client().get_sum(round_id).unmask_deadline)
        with timed(steps, "assist"):
            world.act("assist", round_id, *silent)
        with timed(steps, "recover"):
            world.aggregator.open_sum(round_id)
    assert world.status(round_id) is Status.PROPOSE


def demo_like(privacy: str) -> Spec:
    """Return the spec of an adapter as large as the demo's, 1.84 million values."""
    shapes = {}
    for block in range(_BLOCKS):
        for name, out in _LAYERS.items():
            shapes[f"{block:02d}.{name}.lora_A.weight"] = (_RANK, _WIDTH)
            shapes[f"{block:02d}.{name}.lora_B.weight"] = (out, _RANK)
    layers = [{"name": name, "shape": list(shape)} for name, shape in sorted(shapes.items())]
    screening = {"min_norm": 10, "max_update_norm": 1_000.0}
    return small_spec(layers=layers, privacy=privacy, screening=screening)


@contextmanager
def timed(steps: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the body takes."""
    began = time.perf_counter()
    yield
    steps[name] = steps.get(name, 0.0) + time.perf_counter() - began


def _gas(world: World, round_id: RoundId) -> dict[str, int]:
    """Return the largest gas of each kind of transaction in the round."""
    used: dict[str, int] = {}
    for event in world.told(round_id).events:
        receipt = world.w3.eth.get_transaction_receipt(event.transaction_hash)  # type: ignore[arg-type]
        name = type(event).__name__
        used[name] = max(used.get(name, 0), int(receipt["gasUsed"]))
    return used


def line_of(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    seconds = "  ".join(f"{step} {taken:.2f}" for step, taken in row["seconds"].items())
    return f"{row['participants']:>3} {row['kind']:<7} {seconds}  {row['bytes']:,} bytes"


if __name__ == "__main__":
    main()
