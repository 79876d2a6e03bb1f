"""What the Flower apps say when something is wrong: one line to whom it concerns, no traceback."""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from aggregator.server_app import evaluate, play_rounds
from aggregator.server_app import main as lead
from chain.event_log import MissingLogs
from chain.events import Announced
from chain.location import FederationLocation
from contracts.enums import SubmissionState
from node import client_app
from node.client_app import app
from protocol.errors import Misconfigured
from protocol.types import RoundId
from runtime.announcing import Announcing
from runtime.events import Evaluated, Evaluating, Event, NotEvaluated, PlacesAnnounced, Refused
from runtime.settings import write_location, write_toml
from runtime.stores import StoreSettings
from tests.passwords import write_password
from tests.world import World

NODE = 11
PASSWORD = "secret"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, NODE
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """A participant's folder that lacks nothing."""
    return settled(world, tmp_path)


def settled(world: World, tmp_path: Path) -> Path:
    """Write what ann needs, and return the folder."""
    world.wallets["ann"].save_keystore(tmp_path / "wallet.json", PASSWORD, work_factor=4096)
    write_password(tmp_path / "password", PASSWORD)
    (tmp_path / "data.jsonl").write_text("")
    place = FederationLocation(
        chain_id=world.w3.eth.chain_id,
        address=world.address,
        deployment_block=world.deployment_block,
        rpc_url=world.rpc_url,
        ipfs_url=world.daemon.url,
    )
    write_location(tmp_path / "federation.json", place)
    known = {"federation": "federation.json", "keystore": "wallet.json", "model": "none"}
    own = {"name": "ann", "password_file": "password", "data": "data.jsonl"}
    write_toml(tmp_path / "participant.toml", {**known, **own})
    return tmp_path


class OneNode:
    """A grid with one SuperNode, whose participant's settings lie at `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.waiting: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        return [NODE]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.waiting = [ask(message, self.file) for message in messages]
        return [reply.metadata.reply_to_message_id for reply in self.waiting]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies, self.waiting = self.waiting, []
        return replies


def ask(message: Message, file: Path) -> Message:
    """Hand a message to the ClientApp as a SuperNode does."""
    message.metadata.__dict__["_message_id"] = message.object_id
    node_config: dict[str, Any] = {"participant": str(file)}
    context = Context(1, NODE, node_config, RecordDict(), {"participants": ""})
    reply: Message = app(message, context)
    return reply


def commit_message(round_id: int = 1, kind: str = "commit") -> Message:
    content = RecordDict({"config": ConfigRecord({"round": round_id})})
    return Message(content, dst_node_id=NODE, message_type=f"train.{kind}")


def spoil(folder: Path, what: str, world: World) -> None:
    place = json.loads((folder / "federation.json").read_text())
    match what:
        case "chain":
            place["chain_id"] = 5
        case "contract":
            place["address"] = world.address_of("bob")
        case "token":
            place["address"] = world.client().terms().money.token
        case "keystore":
            (folder / "wallet.json").chmod(0o644)
        case "password":
            write_password(folder / "password", "guess")
        case "settings":
            (folder / "participant.toml").unlink()
    (folder / "federation.json").write_text(json.dumps(place))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("chain", "chain 5 was expected"),
        ("contract", "there is no contract at"),
        ("token", "is not a federation of this version"),
        ("keystore", "can be read by others (mode 0644): run chmod 600"),
        ("password", "the password does not open"),
        ("settings", "participant.toml: No such file"),
    ],
)
def test_what_is_wrong_is_one_line_here_and_there(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str], what: str, words: str
) -> None:
    spoil(folder, what, world)
    reply = ask(commit_message(), folder / "participant.toml")
    assert reply.has_error()
    assert words in reply.error.reason
    (line,) = capsys.readouterr().err.splitlines()
    assert " ERROR " in line
    assert words in line


def test_who_has_a_progress_file_finds_it_there(world: World, folder: Path) -> None:
    spoil(folder, "keystore", world)
    with (folder / "participant.toml").open("a") as file:
        file.write('progress = "progress.jsonl"\n')
    ask(commit_message(), folder / "participant.toml")
    (line,) = (folder / "progress.jsonl").read_text().splitlines()
    assert json.loads(line)["phase"] == "failed"
    assert "can be read by others" in json.loads(line)["reason"]


def test_the_aggregator_hears_who_refused_and_why(world: World, folder: Path) -> None:
    spoil(folder, "chain", world)
    told: list[Event] = []
    evaluate(OneNode(folder / "participant.toml"), world.aggregator, told.append, folder)
    (refused,) = (event for event in told if isinstance(event, Refused))
    assert refused.node == NODE
    assert "chain 5 was expected" in refused.reason
    assert told[-1] == NotEvaluated(round=RoundId(0), answered=0, asked=1)


def test_who_is_no_aggregator_is_told_so(world: World, folder: Path) -> None:
    known = {"federation": "federation.json", "keystore": "wallet.json"}
    write_toml(folder / "aggregator.toml", {**known, "password_file": "password"})
    context = Context(1, 0, {}, RecordDict(), {"aggregator": str(folder / "aggregator.toml")})
    with pytest.raises(Misconfigured, match="is not an aggregator of"):
        lead(cast(Any, None), context)


class Everybody(OneNode):
    """A grid with ann's SuperNode; bob and cem act without one when she is asked to."""

    def __init__(self, file: Path, world: World) -> None:
        super().__init__(file)
        self.world = world

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        for message in sent:
            action = message.metadata.message_type.rpartition(".")[2]
            for name in ("bob", "cem") if action in ("commit", "reveal") else ():
                config = message.content.config_records["config"]
                getattr(self.world.participants[name], action)(RoundId(int(config["round"])))
        return super().push_messages(sent)


class Measuring(OneNode):
    """A grid with one SuperNode, which measures the same loss each time."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.waiting = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            found = RecordDict({"metrics": MetricRecord({"loss": 2.5, "tokens": 10})})
            self.waiting.append(Message(found, reply_to=message))
        return [reply.metadata.reply_to_message_id for reply in self.waiting]


def test_the_loss_of_an_initial_model_is_measured_once(world: World, tmp_path: Path) -> None:
    """As the demo's, whose next federation has the same spec."""
    asked: list[str] = []

    def measure() -> None:
        told: list[Event] = []
        evaluate(Measuring(tmp_path), world.aggregator, told.append, tmp_path / "cache")
        asked.extend(event.phase for event in told if isinstance(event, Evaluating))
        assert told[-1] == Evaluated(round=RoundId(0), loss=2.5, tokens=10)
        # Of this federation; another one has no such file.
        (own,) = world.aggregator.workspace.glob("*/loss-0000.json")
        own.unlink()

    measure()
    measure()
    assert len(asked) == 1
    (kept,) = (tmp_path / "cache").glob("losses/*.json")
    kept.write_text("{")
    measure()
    assert len(asked) == 2


def test_both_announce_where_their_blocks_are_under_flower_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers, its = ("https://ann.example", "https://lead.example")
    with World(tmp_path / "world", rounds=2) as world:
        (tmp_path / "ann").mkdir()
        file = settled(world, tmp_path / "ann") / "participant.toml"
        file.write_text(f'{file.read_text()}[store]\nannounce = ["{hers}"]\n')
        monkeypatch.setattr(
            "node.client_app._open_participant", lambda _: world.participants["ann"]
        )
        told: list[Event] = []
        store = StoreSettings(announce=(its,))
        announcing = Announcing(world.aggregator.federation, store, told.append)
        play_rounds(
            cast(Any, Everybody(file, world)), world.aggregator, announcing, told.append, tmp_path
        )
        assert world.rejections() == {}
        history = world.client().history()
        announced = [event for event in history.events if isinstance(event, Announced)]
        assert [(event.who, event.whereabouts) for event in announced] == [
            (world.aggregator.address, its),
            (world.address_of("ann"), hers),
        ]
        assert len([event for event in told if isinstance(event, PlacesAnnounced)]) == 1
        for number in (1, 2):  # her place stood when she was asked to train
            assert history.rounds[RoundId(number)].paid_to(world.address_of("ann"))


def test_confirmations_hold_under_flower_too(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "participant.toml").open("a") as file:
        file.write("confirmations = 3\n")
    ann = world.participants["ann"]
    monkeypatch.setattr("node.client_app._open_participant", lambda path: ann)
    round_id = world.open_round()
    world.ask("commit", round_id)

    def mine() -> None:
        assert state() is SubmissionState.COMMITTED
        world.travel(1)

    def state() -> SubmissionState:
        return world.client().get_submission(round_id, ann.address).state

    monkeypatch.setattr("node.client_app._pause", mine)
    before = world.w3.eth.block_number
    reply = ask(commit_message(round_id, "reveal"), folder / "participant.toml")
    assert not reply.has_error()
    assert state() is SubmissionState.REVEALED
    assert world.w3.eth.block_number == before + 3 + 1  # ours is the last


def test_who_has_nothing_to_reveal_keeps_nobody_waiting(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "participant.toml").open("a") as file:
        file.write("confirmations = 1000\n")
    ann = world.participants["ann"]
    monkeypatch.setattr("node.client_app._open_participant", lambda path: ann)
    monkeypatch.setattr("node.client_app._pause", lambda: pytest.fail("waits for nothing"))
    round_id = world.open_round()  # she committed to nothing, or has shown it already
    reply = ask(commit_message(round_id, "reveal"), folder / "participant.toml")
    assert not reply.has_error()


def test_a_node_whose_logs_come_later_is_asked_again() -> None:
    tries = []

    def handler(message: Message, context: Context) -> Message:
        tries.append(context)
        if len(tries) < 3:
            raise MissingLogs("they come in a moment")
        return message

    asked = cast(Message, object())
    assert client_app._reporting_failures(handler)(asked, cast(Context, None)) is asked
    assert len(tries) == 3
