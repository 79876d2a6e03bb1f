"""The Flower ClientApp: three messages, each handed to the participant's own code.

    train.commit     train and commit to the open round
    train.reveal     pin the update and reveal it
    train.withdraw   take what the contract owes
    evaluate         the loss of a settled model on a share of the held-out set

A message carries the round's number and no tensor; whether its step is due is read from the chain.
Where the participant's settings are: `participant` in the node's config (deployment), or the folder
`participants` in the run's config and the partition id (simulation).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from chain.location import FederationLocation
from chain.rounds import connect_federation
from chain.wallet import load_keystore, read_password
from node.participant import Participant, Prepared
from node.settings import ParticipantSettings
from node.trainer import LocalTrainer, open_trainer
from protocol.errors import CommonweightError, Misconfigured
from protocol.quantities import RoundId
from storage.ipfs import ContentStore
from storage.progress import reporter

app = ClientApp()


@app.train("commit")
def commit(message: Message, context: Context) -> Message:
    """Train and commit; reply with what is on the chain now."""
    with _failures_reported(context):
        return _reply(message, _participant(context).commit(_round(message)))


@app.train("reveal")
def reveal(message: Message, context: Context) -> Message:
    """Pin and reveal; reply with what is on the chain now."""
    with _failures_reported(context):
        return _reply(message, _participant(context).reveal(_round(message)))


@app.train("withdraw")
def withdraw(message: Message, context: Context) -> Message:
    """Withdraw the participant's credit."""
    with _failures_reported(context):
        _participant(context).withdraw()
        return Message(RecordDict(), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the model that stands before a round on a share of the held-out set."""
    with _failures_reported(context):
        participant = _participant(context)
        config = message.content.config_records["config"]
        part, parts = int(config["part"]), int(config["parts"])
        model = participant.fetch_model(_round(message))
        trainer = _trainer(_settings_path(context))
        loss, tokens = trainer.evaluate(participant.spec, participant.store, model, part, parts)
        metrics = MetricRecord({"loss": loss, "tokens": tokens})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)


@contextmanager
def _failures_reported(context: Context) -> Iterator[None]:
    """Say in the participant's own progress what went wrong: Flower tells only the operator."""
    try:
        yield
    except Exception as error:
        settings = _settings(_settings_path(context))
        reason = str(error) if isinstance(error, CommonweightError) else repr(error)
        reporter(settings.progress, settings.name)("failed", reason=reason)
        raise


def _reply(message: Message, prepared: Prepared | None) -> Message:
    facts = {"asked": int(prepared is not None)}
    if prepared is not None:
        facts["examples"] = prepared.examples
    return Message(RecordDict({"metrics": MetricRecord(facts)}), reply_to=message)


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


# One wallet, model and connection a process: a simulation sends many messages to each.
@lru_cache(maxsize=32)
def _open_participant(path: Path) -> Participant:
    settings = _settings(path)
    location = FederationLocation.load(settings.federation)
    wallet = load_keystore(settings.keystore, read_password(settings.password_file))
    return Participant(
        connect_federation(location, wallet),
        ContentStore(location.ipfs_url),
        _trainer(path),
        settings.state,
        reporter(settings.progress, settings.name),
    )


@lru_cache(maxsize=32)
def _trainer(path: Path) -> LocalTrainer:
    settings = _settings(path)
    report = reporter(settings.progress, settings.name)
    location = FederationLocation.load(settings.federation)
    return open_trainer(settings, ContentStore(location.ipfs_url), report)
