"""The Flower ClientApp: a message for each step, handled by the participant's own code.

    train.commit     train and commit to the open round
    train.reveal     pin the update, masked where the federation says so, and reveal it
    train.unmask     of masked updates: post the secrets that the sum needs
    train.assist     … give shares of a silent member's secrets
    train.object     … say that the sum does not fit the sketches
    train.withdraw   withdraw the credit
    evaluate         return the loss of a settled model on a share of the held-out set

A message carries a round number and no tensors; whether its step is due is read from the chain.
The settings file is `participant` in the node's config (deployment), or lies in the folder
`participants` of the run's config, by partition id (simulation).
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Final

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from chain.event_log import MissingLogs
from chain.federation import Federation
from chain.phases import await_end, depth_of_finality
from contracts.enums import Status, SubmissionState
from ethereum.wallet import load_keystore, read_password
from node.follower import open_participant
from node.participant import Participant, Prepared, training_failures
from node.settings import ParticipantSettings
from node.trainer import LocalTrainer, open_trainer
from protocol.errors import CommonweightError, Misconfigured
from protocol.types import RoundId, UnixTime
from runtime.announcing import Announcing
from runtime.events import Failed, Report
from runtime.logs import app_report, log_reporter, setup_logging

Handler = Callable[[Message, Context], Message]

app = ClientApp()


_POLL_SECONDS: Final = 0.2
_TRIES: Final = 10  # of what a lagging node cannot answer yet
_HANDLER_FAILED: Final = 2  # CLIENT_APP_RAISED_EXCEPTION in Flower's list of error codes


def _reporting_failures(handler: Handler) -> Handler:
    """Report failures to the participant's own log; Flower shows them only to its operator.

    Expected failures are answered with one line, without a traceback.
    """

    @wraps(handler)
    def handle(message: Message, context: Context) -> Message:
        try:
            return _with_all_logs(lambda: handler(message, context))
        except CommonweightError as error:
            _report_failure(context, str(error))
            return Message(Error(_HANDLER_FAILED, str(error)), reply_to=message)
        except Exception as error:
            _report_failure(context, repr(error))
            raise

    return handle


def _with_all_logs(action: Callable[[], Message]) -> Message:
    """Act, again where the node shows a block's state before it shows the block's logs."""
    for _ in range(_TRIES):
        with suppress(MissingLogs):
            return action()
        _pause()
    return action()


@app.train("commit")
@_reporting_failures
def commit(message: Message, context: Context) -> Message:
    """Train and commit; reply whether the round asked this participant, and its examples."""
    # First, as in node/follower.py: an update that nobody finds is rejected.
    _announcing(_settings_path(context)).look()
    return _reply(message, _participant(context).commit(_round(message)))


@app.train("reveal")
@_reporting_failures
def reveal(message: Message, context: Context) -> Message:
    """Pin and reveal once the commit phase has ended; reply as `commit` does.

    Waits for at most half of the reveal phase, for the reasons given in node/follower.py.
    """
    participant, round_id = _participant(context), _round(message)
    federation = participant.federation
    confirmations = _settings(_settings_path(context)).confirmations
    if federation.terms().is_masked:
        confirmations = max(confirmations, depth_of_finality(federation.now()))
    state = federation.get_submission(round_id, participant.address).state
    # Until mined blocks have ended the phase, others could commit to a copy of what is revealed.
    if state is SubmissionState.COMMITTED:
        half = federation.terms().windows.reveal_seconds // 2
        deadline = UnixTime(federation.get_round(round_id).reveal_deadline - half)
        masked = federation.terms().is_masked
        wait = partial(_pause_for_block, federation) if masked else _pause
        await_end(federation, round_id, Status.COMMIT, confirmations, deadline, wait)
    return _reply(message, participant.reveal(round_id))


@app.train("unmask")
@_reporting_failures
def unmask(message: Message, context: Context) -> Message:
    """Post the secrets that the sum needs, once the seal is final; wait for at most half of it."""
    participant, round_id = _participant(context), _round(message)
    federation = participant.federation
    half = federation.terms().windows.unmask_seconds // 2
    deadline = UnixTime(federation.get_sum(round_id).unmask_deadline - half)
    while not participant.unmask(round_id) and federation.next_time() < deadline:
        _pause()
    return Message(RecordDict(), reply_to=message)


@app.train("assist")
@_reporting_failures
def assist(message: Message, context: Context) -> Message:
    """Post our own secrets if that is still to be done, and shares of who is silent."""
    participant, round_id = _participant(context), _round(message)
    participant.unmask(round_id)
    participant.assist(round_id)
    return Message(RecordDict(), reply_to=message)


@app.train("object")
@_reporting_failures
def object_(message: Message, context: Context) -> Message:
    """Object to the proposed sum if it does not fit the sketches."""
    _participant(context).object(_round(message))
    return Message(RecordDict(), reply_to=message)


@app.train("withdraw")
@_reporting_failures
def withdraw(message: Message, context: Context) -> Message:
    """Withdraw the participant's credit."""
    _participant(context).withdraw()
    return Message(RecordDict(), reply_to=message)


@app.evaluate()
@_reporting_failures
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the model that a round starts from on a share of the held-out set."""
    participant = _participant(context)
    config = message.content.config_records["config"]
    part, parts = int(config["part"]), int(config["parts"])
    model = participant.fetch_model(participant.context(_round(message)))
    trainer = _trainer(_settings_path(context))
    with participant.recorder.phase("evaluate", _round(message)), training_failures():
        loss, tokens = trainer.evaluate(participant.spec, participant.store, model, part, parts)
    metrics = MetricRecord({"loss": loss, "tokens": tokens})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _report_failure(context: Context, reason: str) -> None:
    try:
        report = _report(_settings_path(context))
    except CommonweightError:
        # The settings themselves may be what failed. Then nothing says where this role's log is.
        setup_logging("text")
        report = log_reporter("participant")
    report(Failed(reason=reason))


def _reply(message: Message, prepared: Prepared | None) -> Message:
    facts = {"asked": int(prepared is not None)}
    if prepared is not None:
        facts["examples"] = prepared.examples
    return Message(RecordDict({"metrics": MetricRecord(facts)}), reply_to=message)


def _pause() -> None:
    time.sleep(_POLL_SECONDS)


def _pause_for_block(federation: Federation) -> None:
    federation.ask_for_block()
    _pause()


def _round(message: Message) -> RoundId:
    config: ConfigRecord = message.content.config_records["config"]
    return RoundId(int(config["round"]))


def _settings_path(context: Context) -> Path:
    if "participant" in context.node_config:
        return Path(str(context.node_config["participant"]))
    folder = str(context.run_config.get("participants", ""))
    if not folder:
        raise Misconfigured(
            "no participant: set participant=PATH in --node-config, or participants=FOLDER in the "
            "run's config for a simulation"
        )
    return Path(folder) / str(context.node_config["partition-id"]) / "participant.toml"


def _participant(context: Context) -> Participant:
    return _open_participant(_settings_path(context))


@lru_cache(maxsize=32)
def _settings(path: Path) -> ParticipantSettings:
    return ParticipantSettings.load(path)


@lru_cache(maxsize=32)
def _report(path: Path) -> Report:
    settings = _settings(path)
    return app_report(settings, settings.name)


# Opened once per process: a simulation sends many messages to each participant, and opening a
# keystore is slow by design.
@lru_cache(maxsize=32)
def _open_participant(path: Path) -> Participant:
    settings = _settings(path)
    wallet = load_keystore(settings.keystore, read_password(settings.password_file))
    return open_participant(settings, wallet, _report(path))


@lru_cache(maxsize=32)
def _announcing(path: Path) -> Announcing:
    return Announcing(_open_participant(path).federation, _settings(path).store, _report(path))


@lru_cache(maxsize=32)
def _trainer(path: Path) -> LocalTrainer:
    settings = _settings(path)
    return open_trainer(settings, _open_participant(path).store, _report(path))
