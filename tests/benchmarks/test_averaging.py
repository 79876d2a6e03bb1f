"""The benchmarks of averaging, memory and audit on a few kilobytes: that they measure a round."""

from math import prod
from pathlib import Path

import pytest

from benchmarks import aggregation, audit, memory
from benchmarks.files import square_spec
from storage.ipfs import ContentStore

SIDE = 20  # 400 values: a layer ends with padding


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("round")
    spec = square_spec(3, SIDE)
    aggregation.make_files(spec, folder)
    aggregation.ours(spec, folder)()  # the others are checked against it
    return folder


@pytest.mark.parametrize("system", aggregation.SYSTEMS)
def test_every_system_comes_to_the_same_mean(
    files: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = square_spec(3, SIDE)
    monkeypatch.setattr(aggregation, "mark_baseline", lambda: None)  # it is of the whole process
    found = aggregation.MAKERS[system](spec, files)()
    if system in ("ours, average and tree", "ours, verified", "ours, all at once"):
        assert found == aggregation.after(files).root(spec).hex()
    if system == "ours, average alone":
        for index in range(3):
            alone = (files / "alone" / f"{index:05d}.layer").read_bytes()
            # It writes whole leaves, as `average_layers` does.
            assert alone == aggregation.after(files).layer_path(index).read_bytes()


def test_a_wrong_mean_does_not_pass(files: Path, tmp_path: Path) -> None:
    spec = square_spec(3, SIDE)
    for name in ("before", *(f"update{i}" for i in range(aggregation.PARTICIPANTS))):
        (tmp_path / name).symlink_to(files / name)
    (tmp_path / "after").mkdir()
    for path in aggregation.after(files).paths(spec):
        # Only the first value of each layer is wrong.
        wrong = b"\x7f\xff\xff\xff" + path.read_bytes()[4:]
        (tmp_path / "after" / path.name).write_bytes(wrong)
    for make in (aggregation.torch, aggregation.torch_one_byte):
        with pytest.raises(AssertionError):
            make(spec, tmp_path)()


def test_rates_are_of_the_bytes_that_each_side_moves() -> None:
    run = {"seconds": [2.0, 1.0], "cpu_seconds": [1.0], "peak_bytes": 7, "root": ""}
    values = 16 * 256**2
    ours, flower = (
        aggregation.summary(1, system, [run]) for system in ("ours, verified", "Flower FedAvg")
    )
    assert ours["seconds"] == flower["seconds"] == 1.0
    assert ours["update_bytes"] == 8 * values
    assert (ours["model_bytes_read"], ours["model_bytes_written"]) == (4 * values, 4 * values)
    assert flower["update_bytes"] == 32 * values
    assert (flower["model_bytes_read"], flower["model_bytes_written"]) == (0, 4 * values)
    # In the same time Flower moves four times as much, and its rate says so.
    assert flower["update_gb_per_s"] == pytest.approx(4 * ours["update_gb_per_s"])
    assert ours["update_gb_per_s"] == pytest.approx(8 * values / 1e9)
    facts = {"participants": 8, "threads": 2, "results": [ours, flower]}
    _, head, *rows, note = aggregation.told(facts).splitlines()
    for column in ("update MB", "model MB", "seconds", "update GB/s"):
        assert column in head
    assert rows[0].split()[3:6] == ["8", "8", "1.000"]
    assert rows[1].split()[3:6] == ["34", "4", "1.000"]
    assert "differ" in note


def test_shares_count_every_byte_of_a_round() -> None:
    run = {"seconds": [1.0], "cpu_seconds": [1.0], "peak_bytes": 7, "root": ""}
    rows = [aggregation.summary(25, system, [run]) for system in aggregation.SYSTEMS]
    million = 24 * 1024**2 / 1e6
    (found,) = aggregation.shares(rows, {"copy": 32 * million, "sha256": 64 * million})
    # Eight updates and two models: 16 bytes a value; eight updates hashed twice.
    assert found["average_of_copy_bandwidth"] == pytest.approx(0.5)
    assert found["verification_of_sha256_rate"] == pytest.approx(0.25)


def test_memory_is_of_a_round_with_two_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "warm_up", lambda: None)
    found = memory.measure([("a", (30, 20)), ("b", (7,))], tmp_path)
    assert (found["values"], found["update_bytes"], found["model_bytes"]) == (607, 1024, 4096)
    assert (tmp_path / "after" / "00000.layer").read_bytes() == bytes(3072)
    assert found["peak_bytes"] >= 0
    part = {**found, "verify_seconds": 1.0, "average_seconds": 2.0, "rehash_seconds": 0.5}
    rows = [{**part, "values": values, "peak_bytes": 10 + 2 * values} for values in (1, 2)]
    results = memory.results_of(rows, part)
    assert results["slope_bytes_of_memory_a_value"] == pytest.approx(2)
    llama = results["llama_3_1_70b"]
    assert llama["parameters"] == sum(prod(shape) for _, shape in memory.llama_70b())
    assert llama["whole_extrapolated"]["seconds"] == pytest.approx(3.5 * 70_553_706_496 / 607)


def test_an_audit_of_a_small_round_passes(tmp_path: Path) -> None:
    found = audit.run(0.01, 3, 1, tmp_path)
    assert (found["update_bytes"], found["model_bytes"]) == (24 * 512, 24 * 2048)
    assert found["hashed_bytes"] == 24 * (3 * 512 + 2 * 2048)
    assert len(found["repeats"]) == 1
    assert found["on_disk_ratio"] > 0
    assert min(found["parts_seconds"].values()) > 0
    assert "3 updates of 0 MB and two models of 0 MB" in audit.told(found)


def test_an_audit_of_a_wrong_model_fails(tmp_path: Path) -> None:
    stage = audit.Stage(tmp_path / "files", 0.01, 2)
    path = stage.moved.layer_path(3)
    path.write_bytes(b"\0\0\0\1" + path.read_bytes()[4:])
    with audit.daemon(tmp_path / "ipfs") as url:
        store = ContentStore(url)
        federation = stage.publish(store)
        with pytest.raises(AssertionError, match="leaf"):
            audit.audit(federation, store, tmp_path / "audit")
