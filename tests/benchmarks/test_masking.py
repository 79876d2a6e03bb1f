"""The benchmark of masks, on a layer or two."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import masking
from benchmarks.files import spec_of, write_random


def test_what_the_masks_leave_is_the_clear_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(masking.SPECS, "tiny", lambda: spec_of([("a", (300,)), ("b", (2, 256))]))
    monkeypatch.setattr(masking, "SLAB", 256)
    monkeypatch.setattr(masking, "mark_baseline", lambda: None)  # it is of the whole process

    def here(step: str, folder: str, *rest: str) -> Any:
        which, participants, accepted = rest
        return masking.measure(step, Path(folder), which, int(participants), int(accepted))

    monkeypatch.setattr(masking, "in_a_process", here)
    rows = masking.compare(tmp_path, "tiny", 4, 4)
    assert [(row["step"], row["accepted"], row["streams"]) for row in rows] == [
        ("mask", 4, 4),
        ("sketch", 4, 1),
        ("clear sum", 4, 0),
        ("masked sum", 4, 0),
        ("remove masks", 4, 4),
        ("clear sum", 3, 0),
        ("masked sum", 3, 0),
        ("remove masks", 3, 6),
    ]
    assert {row["values"] for row in rows} == {4 * 256}
    assert rows[0]["bytes"] == 5 * 1024
    assert (tmp_path / "masked0" / "00000").stat().st_size == 4 * 512
    head, *lines = masking.told(rows).splitlines()
    assert len(lines) == len(rows)
    assert head.split()[:4] == ["values", "of", "in", "sum"]


def test_a_masked_sum_that_is_not_the_clear_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(masking.SPECS, "tiny", lambda: spec_of([("a", (300,))]))
    files, of = masking.Files(tmp_path, masking.SPECS["tiny"]()), masking.Round(3)
    for i in range(3):
        write_random(files.spec, files.update(i), i)
        masking.masking(files, of, i)
    masking.clear_sum(files, of, 3)
    masking.masked_sum(files, 3)
    masking.removing(files, of, 2)  # as if one of the three were gone
    with pytest.raises(AssertionError):
        masking.check(files, of, 3)


def test_the_adapter_is_the_demos() -> None:
    spec = masking.demo_adapter()
    assert sum(slab.size for slab in masking.slabs(spec)) == 1_843_200
    last = list(masking.slabs(spec))[-1]
    assert last.leaf + last.size // 256 == spec.leaf_count == 7_200
