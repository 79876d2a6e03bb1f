"""The data of a federation on one machine: checked, and where it is one source, shared out.

Everything that can be wrong with a data set is told here, before a chain or a model is started.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from protocol.errors import Misconfigured
from sponsor.config import Config, DataSection, FieldsSection
from storage.files import write_atomically

if TYPE_CHECKING:
    from training.examples import Example, Loaded
    from training.partition import Parts


def prepare_data(config: Config, folder: Path, seed: int) -> Config:
    """Return `config` with a held-out file and a file for each participant, every one readable.

    A source is shared out to JSONL files in `folder`; the same seed gives the same files.
    Misconfigured names what is wrong with the data.
    """
    from training.examples import Fields, load, read_examples

    data = config.data
    if data.source is None:
        held_out = read_examples(_given(data.held_out))
        for file in data.participants.values():
            load(file, Fields(**data.fields.model_dump()), held_out=held_out)
        return config
    files = {name: folder / f"{name}.jsonl" for name in data.names}
    target = data.held_out or folder / "held_out.jsonl"
    _share_out(data, seed, files, None if data.held_out else target)
    shared: dict[str, object] = {
        "source": None,
        "share_among": None,
        "held_out_share": None,
        "held_out": target,
        "participants": files,
        "fields": FieldsSection(),  # of our own files, which everybody knows
    }
    return config.model_copy(update={"data": data.model_copy(update=shared)})


def _share_out(data: DataSection, seed: int, files: dict[str, Path], held_out: Path | None) -> None:
    """Write the participants' files, and the held-out file where the source gives it."""
    from training.examples import Fields, load

    partition = data.partition
    loaded = load(
        data.source or "",
        Fields(**data.fields.model_dump()),
        group_field=partition.field,
        group_until=partition.until,
    )
    numbers = list(range(len(loaded.examples)))
    if held_out is not None:
        count = max(1, round(len(numbers) * (data.held_out_share or 0)))
        public = _drawn(len(numbers), count, seed)
        _write(held_out, [loaded.examples[number] for number in public])
        numbers = _without_copies(loaded, public)
    parts = _parts(data, loaded, numbers, seed)
    for file, part in zip(files.values(), parts, strict=True):
        _write(file, [loaded.examples[numbers[index]] for index in part])


def _drawn(total: int, count: int, seed: int) -> list[int]:
    """Return `count` of the numbers below `total`, drawn at random, sorted."""
    drawn = np.random.default_rng([seed, 1]).choice(total, count, replace=False)
    return sorted(drawn.tolist())


def _without_copies(loaded: "Loaded", public: Sequence[int]) -> list[int]:
    """Return the numbers of the examples that are not in the held-out set, nor copies of it."""
    from training.examples import text_digest

    held = {text_digest(loaded.examples[number]) for number in public}
    return [n for n, each in enumerate(loaded.examples) if text_digest(each) not in held]


def _parts(data: DataSection, loaded: "Loaded", numbers: Sequence[int], seed: int) -> "Parts":
    from training.partition import partition_by_group, partition_dirichlet, partition_iid

    partition, participants = data.partition, len(data.names)
    groups = [loaded.groups[number] for number in numbers]
    if partition.kind == "iid":
        return partition_iid(len(numbers), participants, seed)
    if partition.kind == "field":
        return partition_by_group(groups, participants)
    return partition_dirichlet(groups, participants, partition.alpha, seed, partition.smallest)


def _write(file: Path, examples: Sequence["Example"]) -> None:
    from training.examples import example_lines

    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in example_lines(examples))
    write_atomically(file, lines.encode(), mode=0o600)


def _given(path: Path | None) -> Path:
    if path is None:
        raise Misconfigured("the configuration names no held-out file")
    return path
