"""A cache saves work and never changes what an audit finds."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator import aggregator as module
from auditor.cache import AuditCache
from auditor.check_result import CheckResult
from auditor.replay import Audit
from chain import events as ev
from contracts.enums import Status
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Misconfigured
from protocol.manifest import Manifest
from protocol.types import RoundId, parse_digest
from storage.files import read_json
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, fetch_model
from tests.auditor.auditing import Audited, TellingStore, layer_files
from tests.chain.stage import ask
from tests.disputes.lies import off_by_one
from tests.scored import Bowl, scored_world
from tests.storage.lying_proxy import LyingProxy
from tests.world import SyntheticTrainer, World

ROOT = Path(__file__).parents[2]
LAYERS = 3
QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def bent(data: bytes, place: int, amount: int) -> bytes:
    """Return `data` with one byte changed, or cut off there when `amount` is 0."""
    at = place % len(data)
    if not amount:
        return data[:at]
    return data[:at] + bytes([data[at] ^ amount]) + data[at + 1 :]


# ---------------------------------------------------------------------------------- saves work


def test_what_is_done_is_neither_fetched_nor_recomputed_again(
    played: World, fresh: list[CheckResult], tmp_path: Path
) -> None:
    first = Audited(played, tmp_path)
    # The initial model, three updates and a model a round.
    assert first.store.fetched == LAYERS * (1 + 2 * 4)
    assert first.audit.from_cache == set()
    assert first.lines == fresh
    second = Audited(played, tmp_path)
    assert second.store.told == []
    assert second.audit.from_cache == {1, 2}
    assert second.lines == fresh
    # What is left on the disk is what a third round would start from and be compared with.
    kept = layer_files(tmp_path)
    finalized = [played.told(RoundId(number)).finalized for number in (1, 2)]
    models = {path.parent.name for path in kept if path.parents[1].name == "models"}
    assert models == {event.root.hex() for event in finalized if event is not None}
    updates = {path.parents[2].name for path in kept if path.parents[1].name == "updates"}
    assert updates == {"round-0001", "round-0002"}


def test_a_round_that_is_not_deep_enough_is_recomputed_from_the_bytes_at_hand(
    played: World, fresh: list[CheckResult], tmp_path: Path
) -> None:
    Audited(played, tmp_path, confirmations=1000)
    again = Audited(played, tmp_path, confirmations=1000)
    assert again.audit.from_cache == set()
    assert again.store.told == []
    assert again.lines == fresh


def test_one_round_alone(played: World, fresh: list[CheckResult], tmp_path: Path) -> None:
    only = Audited(played, tmp_path, rounds={RoundId(2)})
    # Check 12 compares with the updates of the round before, and with how the model moved in it.
    assert only.store.fetched == LAYERS * (3 + 2 * 3)
    in_full = [line for line in fresh if line.round_id == 2]
    assert [line for line in only.lines if line.round_id] == in_full
    assert Audited(played, tmp_path, rounds={RoundId(2)}).audit.from_cache == {2}
    assert Audited(played, tmp_path).audit.from_cache == {2}
    with pytest.raises(Misconfigured, match="round 7 was not opened"):
        Audited(played, tmp_path, rounds={RoundId(7)})


def test_other_code_does_not_believe_it(
    played: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Audited(played, tmp_path)
    monkeypatch.setattr("auditor.cache.software_digest", lambda: "of another version")
    assert Audited(played, tmp_path).audit.from_cache == set()


def test_another_node_is_asked_for_the_events_itself(
    played: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Audited(played, tmp_path)
    records = list(tmp_path.rglob("events-*.jsonl"))
    client = played.client()
    client.w3.provider.place = "http://another.example"  # type: ignore[attr-defined]
    asked: list[object] = []
    real = ev.read_events
    monkeypatch.setattr(
        "chain.event_log.read_events",
        lambda w3, address, *blocks: asked.append(blocks) or real(w3, address, *blocks),  # type: ignore[func-returns-value]
    )
    try:
        cache = AuditCache(tmp_path, client, 0)
        list(Audit(client, ContentStore(played.daemon.url), tmp_path / "files", cache).run())
    finally:
        client.w3.provider.place = played.rpc_url  # type: ignore[attr-defined]
    assert asked == [(played.deployment_block, client.w3.eth.block_number)]
    assert len(list(tmp_path.rglob("events-*.jsonl"))) == len(records) + 1


# ------------------------------------------------------------------------------ damaged on disk


@pytest.fixture(scope="module")
def kept(played: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with records and with the layer files of both rounds."""
    folder = tmp_path_factory.mktemp("kept")
    Audited(played, folder, confirmations=1000)
    with_records = tmp_path_factory.mktemp("records")
    Audited(played, with_records)
    for record in with_records.rglob("*.json*"):
        shutil.copy(record, folder / record.parent.name / record.name)
    return folder


@QUICK
@given(which=st.integers(0, 100), place=st.integers(0, 10**6), amount=st.integers(0, 255))
def test_a_damaged_record_is_made_again(
    which: int, place: int, amount: int, played: World, fresh: list[CheckResult], kept: Path
) -> None:
    records = sorted(kept.rglob("*.json*"))
    assert len(records) == 4  # events, the initial model, two rounds
    path = records[which % len(records)]
    before = path.read_bytes()
    path.write_bytes(bent(before, place, amount))
    again = Audited(played, kept)
    assert again.lines == fresh
    damaged = {RoundId(1)} if path.name == "round-0001.json" else set()
    damaged |= {RoundId(2)} if path.name == "round-0002.json" else set()
    assert again.audit.from_cache == {1, 2} - damaged
    # Events are added after what is damaged.
    assert path.read_bytes().endswith(before)
    path.write_bytes(before)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("round-0001.json", b"[]"),
        ("round-0001.json", b"[" * 100_000),
        ("round-0001.json", b'{"key": {}}'),
        ("round-0001.json", b'{"key": {}, "checks": [{"claim": 1}]}'),
        ("initial-model.json", b'{"key": {}, "checks": []}'),
        ("initial-model.json", b"\xff"),
    ],
)
def test_a_record_of_another_form_is_made_again(
    name: str, body: bytes, played: World, fresh: list[CheckResult], kept: Path
) -> None:
    (path,) = kept.rglob(name)
    before = path.read_bytes()
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    again = Audited(played, kept)
    assert again.lines == fresh
    assert again.audit.from_cache == ({2} if name == "round-0001.json" else {1, 2})
    assert path.read_bytes() == before


@QUICK
@given(which=st.integers(0, 100), place=st.integers(0, 10**6), amount=st.integers(0, 255))
def test_a_damaged_layer_file_is_fetched_again(
    which: int,
    place: int,
    amount: int,
    played: World,
    fresh: list[CheckResult],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    Audited(played, folder, confirmations=1000)
    files = layer_files(folder)
    path = files[which % len(files)]
    before = path.read_bytes()
    path.write_bytes(bent(before, place, amount))
    again = Audited(played, folder, confirmations=1000)
    assert again.store.fetched == 1
    assert again.lines == fresh
    assert path.read_bytes() == before


def test_a_record_of_another_round_is_not_taken(played: World, tmp_path: Path) -> None:
    Audited(played, tmp_path)
    (folder,) = [path.parent for path in tmp_path.rglob("round-0001.json")]
    shutil.copy(folder / "round-0001.json", folder / "round-0002.json")
    assert Audited(played, tmp_path).audit.from_cache == {1}


def test_a_cache_that_cannot_be_written_is_one_line(played: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="Not a directory"):
        Audited(played, tmp_path / "file")


# ------------------------------------------------------------------------ rounds paid by scores


def test_a_scored_round_is_kept_for_audits_that_evaluate_as_this_one_does(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with scored_world(tmp_path / "world", "ann", "bob", "cem") as world:
        assert world.play() is Status.FINALIZED
        bowl = Bowl(world.spec)
        plain = [Audited(world, folder) for _ in range(2)]
        measured = [Audited(world, folder, evaluate=bowl, evaluator="bowl") for _ in range(2)]
        assert [each.audit.from_cache for each in plain + measured] == [set(), {1}, set(), {1}]
        assert bowl.calls == 5  # before, the average and without each: once
        # Neither takes the place of the other, and another evaluator has its own losses.
        assert Audited(world, folder).lines == plain[0].lines
        assert Audited(world, folder, evaluate=bowl, evaluator="other").audit.from_cache == set()
    (doubt,) = plain[1].failed
    assert (doubt.section, doubt.passed) == ("§9", None)
    assert "`audit run --model`" in doubt.detail
    assert not measured[1].failed


def test_a_round_in_which_nothing_was_measured_is_kept_too(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with scored_world(tmp_path / "world", "ann", "bob", "cem") as world:
        world.evaluate = None
        world.restart_aggregator()
        assert world.play() is Status.FINALIZED
        first, second = (Audited(world, folder) for _ in range(2))
    assert (first.audit.from_cache, second.audit.from_cache) == (set(), {1})
    (doubt,) = second.failed
    assert doubt.seen_differently
    assert second.lines == first.lines


# -------------------------------------------------------------------------- what is never kept


def test_a_round_that_failed_is_recomputed_and_fails_again(tmp_path: Path) -> None:
    with World(tmp_path / "world") as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "average_layers", lambda *a, **_: off_by_one(*a))
            world.aggregator.propose(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        first, second = (Audited(world, tmp_path / "cache") for _ in range(2))
    assert [line.section for line in first.failed] == ["§7"]
    assert second.lines == first.lines
    assert second.audit.from_cache == set()


@pytest.mark.long
def test_rounds_whose_updates_are_gone_do_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*given: Any) -> LayerFolder:
        time.sleep(0.3)  # such a round is done before the model proposed for it is fetched
        return fetch_model(*given)

    monkeypatch.setattr("auditor.downloads.fetch_model", slowly)
    with World(tmp_path / "world", rounds=5) as world:
        kept = []
        for _ in range(5):
            assert world.play() is Status.FINALIZED
            for each in world.told(RoundId(world.client().round_count())).revealed:
                world.withhold(each.manifest)
            audited = Audited(world, tmp_path / "cache")
            assert {line.passed for line in audited.failed} == {None}
            assert audited.audit.from_cache == set()
            kept.append(len(layer_files(tmp_path / "cache")))
    # The last model, and the one before it moved.
    assert kept == [2 * LAYERS] * 5


def test_a_rejection_for_missing_bytes_is_looked_at_again(tmp_path: Path) -> None:
    """The aggregator could not reach Bob and neither could we; later on we can."""
    with World(tmp_path / "world") as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        prepared = world.folder / "bob" / world.address / f"round-{round_id:04d}" / "prepared.json"
        digest = parse_digest(read_json(prepared)["manifest"])
        cid = raw_cid(Manifest.parse(world.store.get_block(digest)).layers[0].digests[0])
        with LyingProxy(world.daemon.url) as proxy:
            proxy.lose(cid)
            world.store = ContentStore(proxy.url)
            world.restart_aggregator()
            assert world.settle(round_id) is Status.FINALIZED
            assert world.rejections()["bob"][0] == Check.REACHABLE
            agreed = Audited(world, tmp_path / "cache", url=proxy.url)
            proxy.be_honest()
            later = Audited(world, tmp_path / "cache", url=proxy.url)
    assert agreed.failed == []
    assert later.audit.from_cache == set()
    (line,) = later.failed  # not passed
    assert (line.section, line.passed, line.seen_differently) == ("§6", None, True)
    assert "it would have been accepted" in line.detail


# --------------------------------------------------------------------------------- another chain


def test_after_a_reorganisation_nothing_of_the_old_chain_is_believed(tmp_path: Path) -> None:
    with World(tmp_path / "world") as world:
        world.play()
        snapshot = ask(world.w3, "evm_snapshot")
        world.play()
        cache = tmp_path / "cache"
        old = Audited(world, cache)
        assert old.failed == []
        ask(world.w3, "evm_revert", snapshot)
        shorter = Audited(world, cache)  # the events on record end behind this chain's head
        assert {line.round_id for line in shorter.lines} == {None, 1}
        for name in world.names:
            trainer = SyntheticTrainer(f"{name}, once more", 10)
            world.participants[name] = world.participant(name)
            world.participants[name].trainer = trainer
            shutil.rmtree(world.folder / name / world.address / "round-0002")
        shutil.rmtree(world.folder / "aggregator")
        world.restart_aggregator()
        assert world.play() is Status.FINALIZED
        new = Audited(world, cache)
        assert new.audit.from_cache == {1}
        assert new.lines == world.audit()
    assert new.failed == []
    assert new.lines != old.lines


# ------------------------------------------------------------------------------------- killed


def test_an_audit_that_was_killed_goes_on(played: World, tmp_path: Path) -> None:
    """SIGKILL while the second round waits for a layer that does not come."""
    cid = last_layer(played, "cem", RoundId(2))
    with LyingProxy(played.daemon.url) as proxy:
        command = [sys.executable, "-m", "commonweight", "audit", "run", played.address]
        command += ["--rpc", played.rpc_url, "--ipfs", proxy.url, "--confirmations", "0"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "COMMONWEIGHT_HOME": str(tmp_path),
        }
        proxy.stall(cid)
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # All but the one layer are here: 3 models, and the updates of two rounds.
            done = wait_until(
                lambda: (
                    bool(list(tmp_path.rglob("round-0001.json")))
                    and len(list(tmp_path.rglob("round-0001/updates/*/*.layer"))) == LAYERS * 3
                    and len(list(tmp_path.rglob("round-0002/updates/*/*.layer"))) == LAYERS * 3 - 1
                    and len(list(tmp_path.rglob("models/*/[0-9]*.layer"))) == LAYERS * 3
                )
            )
            assert done, (proxy.asked, sorted(tmp_path.rglob("*")))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        proxy.be_honest()
        proxy.asked.clear()
        again = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert again.returncode == 0, again.stdout + again.stderr
        # The spec, the held-out set, three manifests of updates and one of a model: one block.
        assert proxy.asked.count("block/get") == 7
    assert "1 of 2 rounds from the cache" in again.stdout
    assert not list(tmp_path.rglob(".*.layer.*"))


def last_layer(world: World, name: str, round_id: RoundId) -> str:
    prepared = world.folder / name / world.address / f"round-{round_id:04d}" / "prepared.json"
    digest = parse_digest(read_json(prepared)["manifest"])
    return raw_cid(Manifest.parse(world.store.get_block(digest)).layers[-1].digests[0])


def wait_until(is_so: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


# ------------------------------------------------------------------------------------ slow peers


def test_a_silent_peer_holds_up_nobody_else(played: World, tmp_path: Path) -> None:
    """Everything else of this round and of the next one has arrived before it is given up."""
    cid = last_layer(played, "ann", RoundId(1))
    with LyingProxy(played.daemon.url) as proxy:
        proxy.stall(cid)
        store = TellingStore(proxy.url, timeout_s=2.0)
        client = played.client()
        lines = list(Audit(client, store, tmp_path).run())
    assert [(line.section, line.passed) for line in lines if not line.passed] == [
        # Itself, and the two that were committed later: check 12 compares them with it.
        *3 * [("§6", None)],
        ("§7", None),
        # So it does with those of the next round.
        *3 * [("§6", None)],
    ]
    given_up = max(i for i, told in enumerate(store.told) if told == ("failed", cid))
    had_before = {which for what, which in store.told[:given_up] if what == "had"}
    for name in played.names:
        for round_id in (RoundId(1), RoundId(2)):
            last = last_layer(played, name, round_id)
            assert last in had_before or last == cid, (name, round_id)
