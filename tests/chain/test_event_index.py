"""Events on disk: a process begins where one before it ended, and believes nothing torn."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain import event_log
from chain import events as ev
from chain.event_index import SETTLED_BLOCKS, EventIndex
from chain.events import FederationEvent
from chain.federation import Federation
from protocol.errors import Unavailable
from protocol.types import RoundId
from tests.chain.stage import Stage, ask, mine
from tests.chain.test_events import every_event


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of blocks that are asked for."""
    asked: list[tuple[int, int]] = []
    real = ev.read_events

    def read(w3: object, address: object, first: int, last: int) -> list[FederationEvent]:
        asked.append((first, last))
        return real(w3, address, first, last)  # type: ignore[arg-type]

    monkeypatch.setattr(event_log, "read_events", read)
    return asked


def started(stage: Stage, folder: Path) -> Federation:
    """Return the federation as a process that starts now reads it."""
    sponsor = stage.sponsor
    client = Federation(stage.w3, sponsor.address, deployment_block=sponsor.deployment_block)
    client.keep_events(folder)
    return client


def index_of(stage: Stage, folder: Path, **options: int) -> EventIndex:
    sponsor = stage.sponsor
    return EventIndex(folder, stage.w3, sponsor.address, sponsor.deployment_block, **options)  # type: ignore[arg-type]


def test_the_next_process_asks_for_new_blocks_only(
    stage: Stage, tmp_path: Path, ranges: list[tuple[int, int]]
) -> None:
    every_event(stage)
    mine(stage.w3, SETTLED_BLOCKS)
    first = started(stage, tmp_path).now()
    whole = first.history()
    assert ranges == [(stage.sponsor.deployment_block, first.head)]
    mine(stage.w3, 3)
    second = started(stage, tmp_path).now()
    assert second.history() == whole
    assert ranges[1:] == [(first.head - SETTLED_BLOCKS + 1, second.head)]
    # What was read then is added: nothing is read a third time.
    stage.sponsor.announce("https://store.example")
    mine(stage.w3, SETTLED_BLOCKS)
    started(stage, tmp_path).now().history()
    ranges.clear()
    third = started(stage, tmp_path).now()
    assert third.history().events == stage.sponsor.read_events()
    assert ranges == [(third.head - SETTLED_BLOCKS + 1, third.head)]


def test_what_may_be_undone_is_not_kept(stage: Stage, tmp_path: Path) -> None:
    told = every_event(stage)
    started(stage, tmp_path).now().history()
    head = stage.w3.eth.block_number
    known = index_of(stage, tmp_path).load()
    assert known is not None
    events, read = known
    assert read.block == head - SETTLED_BLOCKS
    assert events == [each for each in told if each.block_number <= read.block]


def test_after_a_deep_reorganisation_all_is_read_again(
    stage: Stage, tmp_path: Path, ranges: list[tuple[int, int]]
) -> None:
    snapshot = ask(stage.w3, "evm_snapshot")
    stage.finalize()
    mine(stage.w3, SETTLED_BLOCKS)
    assert started(stage, tmp_path).now().history().rounds[RoundId(1)].finalized is not None
    ask(stage.w3, "evm_revert", snapshot)
    mine(stage.w3, 60)  # longer than the other branch, with nothing in it
    ranges.clear()
    for _ in range(2):
        client = started(stage, tmp_path).now()
        assert client.history().events == stage.sponsor.read_events()
    first, last = stage.sponsor.deployment_block, client.head
    assert ranges == [(first, last), (last - SETTLED_BLOCKS + 1, last)]


def test_an_index_that_lacks_an_event_is_left_alone(stage: Stage, tmp_path: Path) -> None:
    """As a node wrote it that had left out a log which was not counted then."""
    stage.open()
    mine(stage.w3, SETTLED_BLOCKS)
    head = stage.w3.eth.block_number
    told = [each for each in stage.sponsor.read_events() if not isinstance(each, ev.Joined)]
    found = bytes(stage.w3.eth.get_block(head)["hash"])
    index_of(stage, tmp_path).keep(told, head, found)
    client = started(stage, tmp_path)
    with pytest.raises(Unavailable, match="does not have all logs"):
        client.now().history()
    assert client.now().history().events == stage.sponsor.read_events()


def test_another_node_or_federation_has_its_own(stage: Stage, tmp_path: Path) -> None:
    every_event(stage)
    started(stage, tmp_path).now().history()
    assert index_of(stage, tmp_path).load() is not None
    assert index_of(stage, tmp_path, key="audit").load() is None  # type: ignore[arg-type]
    other = EventIndex(tmp_path, stage.w3, stage.lead.address, stage.sponsor.deployment_block)
    assert other.load() is not None  # the same contract, by whatever wallet
    later = EventIndex(tmp_path, stage.w3, stage.sponsor.address, 0)
    assert later.load() is None


def test_a_disk_that_takes_nothing_costs_time_only(stage: Stage, tmp_path: Path) -> None:
    every_event(stage)
    (tmp_path / "file").write_bytes(b"")
    client = started(stage, tmp_path / "file" / "folder")
    assert client.now().history().events == stage.sponsor.read_events()


@pytest.mark.parametrize("told", ['{"event":"Renamed"}', '{"event":[]}', '{"event":"Joined"}', "7"])
def test_events_of_another_version_are_passed_over_and_read_once(
    stage: Stage, tmp_path: Path, ranges: list[tuple[int, int]], told: str
) -> None:
    every_event(stage)
    mine(stage.w3, SETTLED_BLOCKS)
    started(stage, tmp_path).now().history()
    (file,) = tmp_path.iterdir()
    first, head = stage.sponsor.deployment_block, stage.w3.eth.block_number
    found = bytes(stage.w3.eth.get_block(head - SETTLED_BLOCKS)["hash"]).hex()
    body = '{"from_block":%d,"to_block":%d,"block_hash":"%s","events":[%s]}'
    line = (body % (first, head - SETTLED_BLOCKS, found, told)).encode()
    file.write_bytes(b"%s %s\n" % (line, hashlib.sha256(line).hexdigest().encode()))
    ranges.clear()
    sizes = []
    for _ in range(3):
        assert started(stage, tmp_path).now().history().events == stage.sponsor.read_events()
        sizes.append(file.stat().st_size)
    assert ranges == [(first, head), *[(head - SETTLED_BLOCKS + 1, head)] * 2]
    assert sizes[0] == sizes[1] == sizes[2]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(how=st.sampled_from(["cut", "change", "double", "drop"]), at=st.integers(0, 1 << 30))
def test_damage_is_passed_over(stage: Stage, tmp_path: Path, how: str, at: int) -> None:
    """Cut off, overwritten or doubled lines: fewer events or none, and never another one."""
    folder = tmp_path / f"{how}-{at}"
    if not stage.sponsor.round_count():
        every_event(stage)
    head, told = stage.w3.eth.block_number, stage.sponsor.read_events()
    index = index_of(stage, folder, settled_blocks=0)
    blocks = sorted({each.block_number for each in told} | {head})
    for block in blocks:
        found = bytes(stage.w3.eth.get_block(block)["hash"])
        index.keep([each for each in told if each.block_number <= block], block, found)
    file = next(folder.iterdir())
    whole = file.read_bytes()
    place = at % len(whole)
    match how:
        case "cut":
            bent = whole[:place]
        case "change":
            bent = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        case "double":
            bent = whole + whole[place:]
        case _:
            lines = whole.split(b"\n")
            del lines[at % len(lines)]
            bent = b"\n".join(lines)
    file.write_bytes(bent)
    known = index_of(stage, folder, settled_blocks=0).load()
    events, block = ([], -1) if known is None else (known[0], known[1].block)
    assert events == [each for each in told if each.block_number <= block]
    # What is kept next goes on from there.
    again = index_of(stage, folder, settled_blocks=0)
    again.load()
    again.keep(told, head, bytes(stage.w3.eth.get_block(head)["hash"]))
    known = index_of(stage, folder, settled_blocks=0).load()
    assert known is not None
    assert known[0] == [each for each in told if each.block_number <= known[1].block]
