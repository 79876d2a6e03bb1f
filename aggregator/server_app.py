"""The Flower ServerApp: the aggregator's rounds, with Flower messages that ask nodes to act.

Messages carry a round number and no tensors. A lost reply changes nothing, since the aggregator
reads from the chain who acted. The run's config names the settings file as `aggregator`.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from aggregator.aggregator import Action, Aggregator
from aggregator.leader import open_aggregator
from aggregator.settings import AggregatorSettings
from ethereum.wallet import load_keystore, read_password
from protocol.canonical import sha256
from protocol.errors import CommonweightError, Misconfigured
from protocol.types import RoundId
from runtime import events
from runtime.announcing import Announcing
from runtime.events import Report
from runtime.logs import app_report
from storage.files import locked, read_json, write_json

app = ServerApp()

_POLL_SECONDS: Final = 0.1
_WAIT_SECONDS: Final = 30.0  # for the first SuperNode, and for withdrawals, on which nobody waits
_EVALUATION_SECONDS: Final = 600.0


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Play the federation's remaining rounds from wherever the chain stands."""
    path = str(context.run_config.get("aggregator", ""))
    if not path:
        raise Misconfigured("no aggregator: set aggregator=PATH in the run's config")
    settings = AggregatorSettings.load(Path(path))
    # The demo starts Flower, which takes seconds, while it is still deploying the contract.
    while settings.wait_for is not None and not settings.wait_for.exists():
        time.sleep(_POLL_SECONDS)
    report = app_report(settings, "aggregator")
    try:
        wallet = load_keystore(settings.keystore, read_password(settings.password_file))
        aggregator = open_aggregator(settings, wallet, report)
        with locked(settings.state):
            _await_participants(aggregator, settings.min_participants)
            announcing = Announcing(aggregator.federation, settings.store, report)
            play_rounds(grid, aggregator, announcing, report, settings.cache)
    except CommonweightError as error:
        # Flower logs the exception for its own operator; the role's log needs a line too.
        report(events.Failed(reason=str(error)))
        raise
    report(events.Finished())


def _await_participants(aggregator: Aggregator, wanted: int) -> None:
    """Wait until enough participants have joined for a first round."""
    has_reported = False
    while (active := aggregator.federation.active_count()) < wanted:
        if aggregator.federation.is_over():
            return
        if not has_reported:
            aggregator.report(events.WaitingForParticipants(active=active, wanted=wanted))
        has_reported = True
        aggregator.wait()


def play_rounds(
    grid: Grid, aggregator: Aggregator, announcing: Announcing, report: Report, cache: Path
) -> None:
    """Open, play and evaluate round after round, then ask every node to withdraw."""
    evaluate(grid, aggregator, report, cache)
    while (round_id := aggregator.next_round()) is not None:
        announcing.look()  # it is bonded by now, and so read, and nobody has been asked to train
        aggregator.play(round_id, partial(_ask, grid, aggregator))
        evaluate(grid, aggregator, report, cache)
    _exchange(grid, "train.withdraw", {}, _WAIT_SECONDS)


def evaluate(grid: Grid, aggregator: Aggregator, report: Report, cache: Path) -> None:
    """Report the held-out loss of the current model, of which each node computes a share.

    The mean is weighted by answer tokens, so it equals the loss on the whole set. Nothing is
    reported unless every node answers, since the loss on part of the set is not comparable.
    A model that was evaluated before a restart is not evaluated again, nor an initial model whose
    loss is in `cache` from another federation with the same spec.
    """
    finished = aggregator.federation.last_finalized_round()
    known = aggregator.workspace / aggregator.federation.address / f"loss-{finished:04d}.json"
    if known.exists():
        return
    spec, root = aggregator.spec.digest(), aggregator.federation.current_model().root
    initial = cache / "losses" / f"{sha256(spec + root).hex()}.json"
    if not finished and initial.exists():
        with suppress(Misconfigured, TypeError):  # damaged: it only saves time
            found = read_json(initial)
            evaluated = events.Evaluated(round=finished, **found)
            write_json(known, found)
            report(evaluated)
            return
    nodes = sorted(_nodes(grid))
    messages = [
        _message(node, "evaluate", round=finished + 1, part=part, parts=len(nodes))
        for part, node in enumerate(nodes)
    ]
    report(events.Evaluating(round=finished))
    replies = _collect(grid, messages, _EVALUATION_SECONDS)
    _report_refusals(replies, report)
    metrics = [r.content.metric_records["metrics"] for r in replies if r.has_content()]
    if len(metrics) < len(nodes):
        report(events.NotEvaluated(round=finished, answered=len(metrics), asked=len(nodes)))
        return
    tokens = sum(each["tokens"] for each in metrics)
    loss = sum(each["loss"] * each["tokens"] for each in metrics) / tokens
    write_json(known, {"loss": loss, "tokens": tokens})
    if not finished:
        write_json(initial, {"loss": loss, "tokens": tokens})
    report(events.Evaluated(round=finished, loss=loss, tokens=tokens))


def _ask(grid: Grid, aggregator: Aggregator, action: Action, round_id: RoundId) -> None:
    federation = aggregator.federation
    facts, masked = federation.get_round(round_id), federation.get_sum(round_id)
    deadline = {
        "commit": facts.commit_deadline,
        "reveal": facts.reveal_deadline,
        "unmask": masked.unmask_deadline,
        "assist": masked.assist_deadline,
        "object": facts.challenge_deadline,
    }[action]
    # No longer than the phase: then the next one is due, whoever has answered.
    seconds = max(deadline - time.time(), 1.0)
    replies = _exchange(grid, f"train.{action}", {"round": round_id}, seconds)
    _report_refusals(replies, aggregator.report)


def _report_refusals(replies: Iterable[Message], report: Report) -> None:
    """Report the errors of SuperNodes. They inform only: the chain shows who acted."""
    for reply in replies:
        if reply.has_error():
            report(events.Refused(node=reply.metadata.src_node_id, reason=reply.error.reason))


def _exchange(grid: Grid, kind: str, config: dict[str, int], seconds: float) -> list[Message]:
    """Send a message to every node and return the replies that came within `seconds`."""
    messages = [_message(node, kind, **config) for node in _nodes(grid)]
    return _collect(grid, messages, seconds)


def _nodes(grid: Grid) -> list[int]:
    give_up = time.monotonic() + _WAIT_SECONDS
    while not (nodes := list(grid.get_node_ids())):
        if time.monotonic() > give_up:
            raise Misconfigured(f"no SuperNode connected within {_WAIT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    return nodes


def _message(node: int, kind: str, **config: int) -> Message:
    content = RecordDict({"config": ConfigRecord(dict(config))})
    return Message(content, dst_node_id=node, message_type=kind)


def _collect(grid: Grid, messages: Iterable[Message], seconds: float) -> list[Message]:
    # Instead of grid.send_and_receive, which polls for replies only every three seconds.
    waiting = set(grid.push_messages(messages))
    replies: list[Message] = []
    give_up = time.monotonic() + seconds
    while waiting and time.monotonic() < give_up:
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            replies.append(reply)
        time.sleep(_POLL_SECONDS)
    return replies
