"""The profile of a run: what is recorded, what survives, what `commonweight profile` shows."""

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from commonweight.cli import main
from profiling import recorder as recorder_module
from profiling.display import short_names
from profiling.recorder import PROFILE, Recorder, current
from profiling.records import Recorded, read_profile
from profiling.summary import covered, describe_profile
from profiling.traffic import TRAFFIC
from protocol.manifest import Manifest
from protocol.types import Digest, RoundId
from tests.profiling.record_many import record_many
from tests.world import NAMES, World, small_spec

ROUND = RoundId(1)
SPEC = small_spec()


def make_recorder(state: Path) -> Recorder:
    return Recorder(state, "participant", "0xabc", SPEC)


def recorded(state: Path) -> list[Recorded]:
    return read_profile(state / PROFILE).phases


# --------------------------------------------------------------- a phase


def test_bytes_go_to_the_phase_and_layer_that_move_them(tmp_path: Path) -> None:
    with make_recorder(tmp_path).phase("pin", 3) as span:
        TRAFFIC.add(sent=5)
        with span.layer(2):
            TRAFFIC.add(sent=7, received=1)
        with span.layer(2) as meter:
            meter.add(read=4)
    TRAFFIC.add(sent=1000)
    (phase,) = recorded(tmp_path)
    assert (phase.role, phase.who, phase.round, phase.phase) == ("participant", "0xabc", 3, "pin")
    assert (phase.total.sent, phase.total.received, phase.total.read) == (12, 1, 4)
    (layer,) = phase.layers.values()
    assert (layer.sent, layer.received, layer.read, layer.written) == (7, 1, 4, 0)
    assert not phase.failed
    assert read_profile(tmp_path / PROFILE).layers == [
        (layer.name, SPEC.layer_bytes(index, "model")) for index, layer in enumerate(SPEC.layers)
    ]


def test_threads_have_their_bytes_to_themselves(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)

    def move(index: int) -> None:
        with span.layer(index):
            barrier.wait()
            TRAFFIC.add(received=10**index)
            barrier.wait()

    with make_recorder(tmp_path).phase("fetch model", 1) as span, ThreadPoolExecutor(4) as pool:
        list(pool.map(move, range(4)))
    (phase,) = recorded(tmp_path)
    found = {index: meter.received for index, meter in phase.layers.items()}
    assert found == {0: 1, 1: 10, 2: 100, 3: 1000}
    assert phase.total.received == 1111


def test_a_phase_inside_another_is_not_timed_twice(tmp_path: Path) -> None:
    started = time.perf_counter()
    with make_recorder(tmp_path).phase("train", 1), current().phase("encode"):
        time.sleep(0.2)
    elapsed = time.perf_counter() - started
    inner, outer = recorded(tmp_path)
    assert (inner.phase, outer.phase) == ("encode", "train")
    assert inner.total.seconds >= 0.2
    assert outer.total.seconds <= elapsed - 0.2


def test_a_phase_that_fails_is_recorded_with_what_it_moved(tmp_path: Path) -> None:
    def fail() -> None:
        with make_recorder(tmp_path).phase("pin", 1) as span, span.layer(0):
            TRAFFIC.add(sent=9)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    (phase,) = recorded(tmp_path)
    assert phase.failed
    assert phase.total.sent == phase.layers[0].sent == 9


def test_blocks_are_measured_to_the_end(tmp_path: Path) -> None:
    def blocks(index: int) -> Iterator[bytes]:
        yield from (b"abc", b"de")

    with make_recorder(tmp_path).phase("verify: screen", 1) as span:
        for block in span.measured(blocks)(1):
            assert block
            time.sleep(0.02)
    (phase,) = recorded(tmp_path)
    assert phase.layers[1].read == phase.total.read == 5
    assert phase.layers[1].seconds >= 0.04


def test_where_nobody_records_nothing_is_counted() -> None:
    with current().phase("pin") as span, span.layer(0) as meter:
        TRAFFIC.add(sent=3)
        span.note(base_weights=1)
    assert meter.sent == 3
    assert not current().layers


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the mark of memory cannot be reset"
)
def test_peak_memory_is_that_of_the_phase(tmp_path: Path) -> None:
    recorder, size = make_recorder(tmp_path), 200 << 20
    with recorder.phase("before", 1):
        pass
    with recorder.phase("train", 1), current().phase("encode"):
        held = bytearray(size)
        held[::4096] = bytes(len(range(0, size, 4096)))
        del held
    with recorder.phase("after", 1):
        pass
    peak = {phase.phase: phase.total.peak for phase in recorded(tmp_path)}
    assert peak["train"] >= peak["encode"] >= peak["before"] + 0.9 * size
    assert peak["after"] <= peak["encode"] - 0.9 * size


# -------------------------------------------------------------- the file


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path)
    with recorder.phase("train", 1):
        pass
    for torn in (
        b'\n{"role":"participant","who":"0xabc","rou',
        b'\n[1]\n{}\nnull\n{"round":"x"}\n\xff\xfe',
    ):
        with (tmp_path / PROFILE).open("ab") as file:
            file.write(torn)
        with recorder.phase("pin", 2):
            pass
    assert [phase.phase for phase in recorded(tmp_path)] == ["train", "pin", "pin"]


def test_two_processes_share_a_profile(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=record_many, args=(tmp_path, SPEC, 60)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    phases = recorded(tmp_path)
    assert sorted(phase.round for phase in phases) == sorted([*range(60)] * 2)
    assert {phase.total.written for phase in phases} == {sum(range(100))}


def test_a_killed_process_leaves_what_it_had_recorded(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=record_many, args=(tmp_path, SPEC, 10**6)
    )
    process.start()
    while not (tmp_path / PROFILE).exists() or (tmp_path / PROFILE).stat().st_size < 50_000:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = len(recorded(tmp_path))
    assert before > 5
    with make_recorder(tmp_path).phase("train", 7):
        pass
    phases = recorded(tmp_path)
    assert (len(phases), phases[-1].phase) == (before + 1, "train")


def warned_about(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> list[tuple[str, int, str]]:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with recorder.phase("train", 1):
                pass
    return caplog.record_tuples


def test_a_full_disk_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / PROFILE).symlink_to("/dev/full")
    ((_, _, text),) = warned_about(make_recorder(tmp_path), caplog)
    assert text.endswith("No space left on device: nothing is recorded from here on")


def test_a_folder_that_cannot_be_made_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    ((_, _, text),) = warned_about(make_recorder(tmp_path / "file" / "state"), caplog)
    assert "Not a directory: nothing is recorded" in text


def test_a_profile_does_not_grow_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "LARGEST_BYTES", 600)
    warned_about(make_recorder(tmp_path), caplog)
    ((_, _, text),) = warned_about(make_recorder(tmp_path), caplog)
    assert "File too large" in text
    assert 600 < (tmp_path / PROFILE).stat().st_size < 1200


# ----------------------------------------------------------- a real round


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as world:
        world.play()
        yield world


def transferred(world: World, manifest: Digest) -> tuple[int, list[int]]:
    """Return the size of a manifest with its layer files, and of each of them, from IPFS."""
    raw = world.store.get_block(manifest)
    sizes = [
        sum(len(world.store.get_block(digest)) for digest in entry.digests)
        for entry in Manifest.parse(raw).layers
    ]
    return len(raw) + sum(sizes), sizes


def phases_of(world: World, name: str, phase: str) -> list[Recorded]:
    return [p for p in recorded(world.folder / name) if p.phase == phase]


def test_a_participants_bytes_are_those_of_the_manifests(world: World) -> None:
    model, model_layers = transferred(world, world.client().terms().identity.initial_model_manifest)
    revealed = {r.participant: r.manifest for r in world.told(ROUND).reveals}
    for name in NAMES:
        (fetched,), (pinned,) = (phases_of(world, name, p) for p in ("fetch model", "pin"))
        assert (fetched.total.received, fetched.total.sent) == (model, 0)
        assert [fetched.layers[i].received for i in range(3)] == model_layers
        update, layers = transferred(world, revealed[world.address_of(name)])
        assert (pinned.total.received, pinned.total.sent) == (0, update)
        assert [pinned.layers[i].sent for i in range(3)] == layers
        (encoded,) = phases_of(world, name, "encode")
        assert [encoded.layers[i].written for i in range(3)] == layers
        assert len(phases_of(world, name, "commit")) == len(phases_of(world, name, "train")) == 1


def test_the_aggregators_bytes_are_those_of_the_manifests(world: World) -> None:
    fetched = phases_of(world, "aggregator", "verify: fetch")
    expected = [transferred(world, r.manifest)[0] for r in world.told(ROUND).reveals]
    assert sorted(phase.total.received for phase in fetched) == sorted(expected)
    screened = phases_of(world, "aggregator", "verify: screen")
    model, update = (world.spec.total_bytes(kind) for kind in ("model", "update"))
    assert [phase.total.read for phase in screened] == [update] * len(NAMES)
    (pinned,) = phases_of(world, "aggregator", "pin")
    assert pinned.total.sent == transferred(world, world.proposal(ROUND).manifest)[0]
    (averaged,) = phases_of(world, "aggregator", "average")
    assert averaged.total.read == model + update * len(NAMES)
    assert averaged.total.written == model
    for index in range(3):
        assert averaged.layers[index].written == world.spec.layer_bytes(index, "model")
    assert len(phases_of(world, "aggregator", "propose")) == 1


def test_the_budget_counts_each_model_received_and_update_sent(world: World) -> None:
    found = describe_profile(world.folder)["communication"]
    of_both = world.spec.total_bytes("model") + world.spec.total_bytes("update")
    assert found["used_bytes"] == len(NAMES) * of_both
    assert found["participants"] == len(NAMES)
    assert found["full_weight_bytes"] is None  # nobody said how large the base model is
    own = [p.total for name in (*NAMES, "aggregator") for p in recorded(world.folder / name)]
    assert found["received_by_all"] == sum(total.received for total in own)
    assert found["sent_by_all"] == sum(total.sent for total in own)


def test_full_weights_would_move_as_often_with_as_many_bytes_a_value(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path)
    with recorder.phase("train", 1) as span:
        span.note(base_weights=1000)
    assert "full weights" not in show(tmp_path)
    with recorder.phase("fetch model", 1) as span, span.layer(0):
        TRAFFIC.add(received=SPEC.total_bytes("model"))
    for _ in range(2):
        with recorder.phase("pin", 1) as span, span.layer(0):
            TRAFFIC.add(sent=SPEC.total_bytes("update"))
    found = describe_profile(tmp_path)["communication"]
    assert found["full_weight_bytes"] == 1000 * 4 + 2 * 1000
    values = SPEC.total_bytes("update")
    told = f"1,000 weights in the same encoding, {1000 / values:.1f} times as much"
    assert told in show(tmp_path)


# ------------------------------------------------------------ the command


def show(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["profile", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_the_tables_fit_100_columns(world: World) -> None:
    lines = show(world.folder).splitlines()
    assert max(map(len, lines)) <= 100
    phases = [line.split("│")[2].strip() for line in lines if line.startswith("│")]
    participant = ["fetch model", "train", "encode", "hash", "prove store"]
    participant += ["commit", "pin", "reveal"]
    aggregator = ["fetch model", "verify", "fetch", "screen", "compare"]
    aggregator += ["average", "hash", "pin", "propose"]
    assert phases[: len(participant) + len(aggregator)] == participant + aggregator
    assert any(
        "layers, participant: the 5 slowest of 9; --layers shows all" in line for line in lines
    )
    assert any("to and from 3 participants, of FlowerTune's 200,000" in line for line in lines)


def test_long_layer_names_fit_too(tmp_path: Path) -> None:
    layers = [
        {"name": f"base_model.model.model.layers.{n}.self_attn.{kind}_proj.weight", "shape": [2, 2]}
        for n in range(12)
        for kind in ("k", "q" * 60)
    ]
    spec = small_spec(layers=sorted(layers, key=lambda layer: str(layer["name"])))
    with Recorder(tmp_path, "participant", "0xabc", spec).phase("pin", 1) as span:
        for index in range(len(layers)):
            with span.layer(index):
                pass
    output = show(tmp_path, "--layers")
    assert max(map(len, output.splitlines())) <= 100
    assert "11.self_attn.k_proj" in output
    assert "slowest" not in output


def test_the_json_has_every_figure(world: World) -> None:
    described = json.loads(show(world.folder, "--json"))
    assert described["rounds"] == [1]
    assert sorted(described["roles"].values()) == ["aggregator"] + ["participant"] * 3
    rows = {(row["role"], row["phase"]): row for row in described["phases"]}
    pinned = rows["participant", "pin"]
    assert pinned["times"] == 3
    assert pinned["bytes_per_second"] == pytest.approx(
        pinned["bytes_out"] / pinned["seconds"], rel=0.01
    )
    assert pinned["peak_bytes"] > 10**7
    assert (
        rows["aggregator", "verify"]["bytes_in"] == rows["aggregator", "verify: fetch"]["bytes_in"]
    )
    assert rows["participant", "commit"]["bytes_per_second"] is None
    assert described["by_round"] == [{"round": 1, "phases": described["phases"]}]
    averaged = [row for row in described["layers"] if row["phase"] == "average"]
    assert [row["layer"] for row in averaged] == [layer.name for layer in world.spec.layers]
    sizes = [world.spec.layer_bytes(index, "model") for index in range(3)]
    assert [row["bytes_out"] for row in averaged] == sizes == [8192, 8192, 2048]


def test_a_state_folder_shows_one_role(world: World) -> None:
    assert json.loads(show(world.folder / "ann", "--json"))["roles"] == {
        world.address_of("ann"): "participant"
    }
    assert "participants, of FlowerTune's" not in show(world.folder / "aggregator")


def test_a_demos_run_has_all_its_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "0001"
    for place in ("aggregator", "participants/0", "participants/1"):
        with make_recorder(run / place / "state").phase("pin", 1):
            pass
    monkeypatch.setenv("COMMONWEIGHT_HOME", str(tmp_path))
    for arguments in (["--json"], [run, "--json"]):
        assert len(json.loads(show(*arguments))["profiles"]) == 3


def test_wrong_folders_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMONWEIGHT_HOME", str(tmp_path / "home"))
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / PROFILE).write_text('{"role": "par')
    for name, text in {
        "missing": "is not a folder: a run's or a role's state was expected",
        "file": "is not a folder: a run's or a role's state was expected",
        "empty": "has no profile.jsonl: no phase of a run was recorded there yet",
        "torn": "has no whole line yet",
    }.items():
        output = show(tmp_path / name, code=1)
        assert output.startswith("error: ")
        assert text in output
        assert output.count("\n") == 1
    assert show(code=1) == "error: no run: name a run's folder or a role's state folder\n"


# ------------------------------------------------------------------- sums


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=8))
def test_time_that_is_covered_twice_counts_once(pairs: list[tuple[int, int]]) -> None:
    seconds = {second for start, length in pairs for second in range(start, start + length)}
    assert covered([(float(s), float(s + n)) for s, n in pairs]) == len(seconds)


def test_names_lose_what_all_share() -> None:
    assert short_names(["m.layers.0.q.weight", "m.layers.11.q.weight", "m.layers.0.k.weight"]) == {
        "m.layers.0.q.weight": "0.q",
        "m.layers.11.q.weight": "11.q",
        "m.layers.0.k.weight": "0.k",
    }
    assert short_names(["only.one"]) == {"only.one": "only.one"}
    assert short_names(["a.b", "a.b.c"]) == {"a.b": "b", "a.b.c": "b.c"}
    assert short_names([]) == {}
