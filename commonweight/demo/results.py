"""A run's results, read from the chain, with the losses that the roles reported.

federation    the contract's address            rounds    one object per round, see `_round` below
seed, base_loss                                 paid      token units by address
audit         {"checks": n, "failed": n}        data      what each participant read and dropped
answers       to the configuration's question, or null (commonweight/demo/answers.py)

A round's `validation` has, by participant, the loss on the data withheld from training: of the
model that the round started from, and of the participant's own update. `aggregation_error` is how
far averaging A and B is from averaging their product (aggregator/product_error.py).
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from chain.events import RoundEvent
from chain.federation import Federation, connect_federation
from chain.history import RoundHistory
from chain.location import FederationLocation
from node.settings import ParticipantSettings
from protocol.cid import raw_cid
from protocol.errors import CommonweightError, Misconfigured
from protocol.types import RoundId
from runtime.events import AggregationError, DataRead, Evaluated, Validated
from runtime.progress import Line, read_progress


def collect(location: FederationLocation, run: Path, seed: int) -> dict[str, Any]:
    """Return the result of a run, without its audit."""
    federation = connect_federation(location)
    history = federation.history()
    lines = list(progress(run))
    evaluated = [line.event for line in lines if isinstance(line.event, Evaluated)]
    losses = {each.round: each.loss for each in evaluated}
    paid: Counter[str] = Counter()
    for told in history.rounds.values():
        for event in told.paid:
            paid[event.participant] += event.amount
        if told.finalized is not None and told.finalized.fee:
            paid[told.finalized.aggregator] += told.finalized.fee
    return {
        "federation": location.address,
        "seed": seed,
        "base_loss": losses.get(RoundId(0)),
        "rounds": [
            _round(federation, each, losses) | _reported(lines, each.round_id)
            for each in history.rounds.values()
            if each.finalized is not None
        ],
        "data": {
            line.who: line.event.facts() for line in lines if isinstance(line.event, DataRead)
        },
        "paid": dict(paid),
        "names": names(run),
    }


def start_audit(location: FederationLocation, model: str | None) -> subprocess.Popen[str]:
    """Start an audit in its own process, given the address and the endpoints alone.

    And where the base model is, if there are losses to check.
    """
    # As a stranger would run it: nothing in this process, and no cache, can vouch for the result.
    command = [sys.executable, "-P", "-m", "commonweight", "audit", "run", location.address]
    command += ["--rpc", location.rpc_url, "--ipfs", location.ipfs_url, "--no-cache", "--json"]
    command += [] if model is None else ["--model", model]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def finish_audit(process: subprocess.Popen[str], run: Path) -> dict[str, int]:
    """Wait for the audit; return the number of checks and of those that failed.

    Writes the full record to the run's audit.json.
    """
    output, errors = process.communicate()
    # By its output: the audit also exits with 1 when it ran and a check failed.
    try:
        record = json.loads(output)
    except ValueError:
        last = errors.strip().splitlines()[-1:] or ["no output"]
        raise CommonweightError(f"the audit did not run: {last[0]}") from None
    (run / "audit.json").write_text(json.dumps(record, indent=2) + "\n")
    checks = record["checks"]
    return {"checks": len(checks), "failed": sum(not check["passed"] for check in checks)}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the held-out loss over the rounds."""
    try:
        # Here, since it is the optional extra `plot`, and slow to import.
        import matplotlib
    except ImportError as error:
        raise Misconfigured(
            "no matplotlib for the plot: pip install 'commonweight[plot]'"
        ) from error
    matplotlib.use("agg")  # before pyplot is imported, which would look for a display
    from matplotlib import pyplot

    points = [(0, result["base_loss"])] + [(r["round"], r["loss"]) for r in result["rounds"]]
    known = [(number, loss) for number, loss in points if loss is not None]
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    axes.plot([n for n, _ in known], [loss for _, loss in known], marker="o", color="#1f6f8b")
    for number, loss in known:
        axes.annotate(
            f"{loss:.3f}", (number, loss), textcoords="offset points", xytext=(0, 8), ha="center"
        )
    axes.set_xlabel("round (0: the base model)")
    axes.set_ylabel("held-out loss, nats per token")
    axes.set_xticks([number for number, _ in points])
    axes.margins(y=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def names(run: Path) -> dict[str, str]:
    """Return the participants' names by address. Only this machine knows them."""
    found: dict[str, str] = {}
    for path in sorted((run / "participants").glob("*/wallet.json")):
        settings = ParticipantSettings.load(path.parent / "participant.toml")
        address = "0x" + json.loads(path.read_text())["address"].removeprefix("0x")
        found[to_checksum_address(address)] = settings.name
    return found


def progress(run: Path) -> Iterator[Line]:
    """Yield the lines of progress of all attempts at a run, oldest first."""
    for path in sorted((run / "progress").glob("*.jsonl")):
        for _, line in read_progress(path):
            yield line


def _round(
    federation: Federation, told: RoundHistory, losses: dict[RoundId, float]
) -> dict[str, Any]:
    assert told.finalized is not None
    verdicts = told.proposed.verdicts if told.proposed else ()
    seconds = _time(federation, told.finalized) - _time(federation, told.opened)
    # One transaction may have several events, as a settlement has one per payment.
    hashes = {event.transaction_hash for event in told.events}
    receipts = [federation.w3.eth.get_transaction_receipt(each) for each in hashes]  # type: ignore[arg-type]
    return {
        "round": told.round_id,
        "model_root": told.finalized.root.hex(),
        "model_cid": raw_cid(told.finalized.manifest),
        "loss": losses.get(told.round_id),
        "accepted": [v.participant for v in verdicts if v.is_accepted],
        "scores": {v.participant: v.score for v in verdicts if v.is_accepted},
        "rejected": {v.participant: v.reason for v in verdicts if not v.is_accepted},
        "gas": sum(receipt["gasUsed"] for receipt in receipts),
        "seconds": seconds,
    }


def _reported(lines: list[Line], round_id: RoundId) -> dict[str, Any]:
    """Return what participants and aggregator reported of a round beside what is on the chain."""
    reported = [(line.who, line.event) for line in lines]
    return {
        "validation": {
            who: {"model": each.model, "own": each.own, "tokens": each.tokens}
            for who, each in reported
            if isinstance(each, Validated) and each.round == round_id
        },
        "aggregation_error": next(
            (
                event.total
                for _, event in reported
                if isinstance(event, AggregationError) and event.round == round_id
            ),
            None,  # for models without pairs of A and B
        ),
    }


def _time(federation: Federation, event: RoundEvent) -> int:
    return int(federation.w3.eth.get_block(event.block_number)["timestamp"])
