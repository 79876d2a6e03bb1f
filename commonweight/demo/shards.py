"""A demo's data: checked, and split among the participants if it is one source.

Every problem of a data set is reported here, before a chain or a model is started.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protocol.errors import Misconfigured
from sponsor.config import Config, DataSection, FieldsSection
from storage.files import write_atomically
from training.examples import (
    Example,
    Fields,
    example_lines,
    load,
    read_examples,
    text_digest,
)
from training.partition import Parts, partition_by_group, partition_dirichlet, partition_iid


def prepare_data(config: Config, folder: Path, seed: int) -> Config:
    """Return `config` with a held-out file and one file per participant, all readable.

    Splits a source into JSONL files in `folder`; the same seed gives the same files. Raises
    Misconfigured with what is wrong with the data.
    """
    data = config.data
    if data.source is None:
        if data.held_out is None:
            raise Misconfigured("the configuration names no held-out file")
        held_out = read_examples(data.held_out)
        # Only to report problems now; each participant loads its own file again.
        for file in data.participants.values():
            fields = Fields(**data.fields.model_dump())
            load(file, fields, encoding=data.encoding, held_out=held_out)
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
        "fields": FieldsSection(),  # the files written here have the default names, in UTF-8
        "encoding": None,
    }
    return config.model_copy(update={"data": data.model_copy(update=shared)})


def _share_out(data: DataSection, seed: int, files: dict[str, Path], held_out: Path | None) -> None:
    """Write the participants' files, and the held-out file if it comes from the source."""
    partition = data.partition
    loaded = load(
        data.source or "",
        Fields(**data.fields.model_dump()),
        encoding=data.encoding,
        group_field=partition.field,
        group_until=partition.until,
    )
    numbers = list(range(len(loaded.examples)))
    if held_out is not None:
        count = max(1, round(len(numbers) * (data.held_out_share or 0)))
        # A random stream of its own: the partitioner draws from the seed alone.
        drawn = np.random.default_rng([seed, 1]).choice(len(numbers), count, replace=False)
        public = sorted(drawn.tolist())
        _write(held_out, [loaded.examples[number] for number in public])
        # Copies of public examples are left out too: training on them would spoil the evaluation.
        held = {text_digest(loaded.examples[number]) for number in public}
        numbers = [n for n, each in enumerate(loaded.examples) if text_digest(each) not in held]
    participants, groups = len(data.names), [loaded.groups[number] for number in numbers]
    parts: Parts
    if partition.kind == "iid":
        parts = partition_iid(len(numbers), participants, seed)
    elif partition.kind == "field":
        parts = partition_by_group(groups, participants)
    else:
        parts = partition_dirichlet(groups, participants, partition.alpha, seed, partition.smallest)
    for file, part in zip(files.values(), parts, strict=True):
        _write(file, [loaded.examples[numbers[index]] for index in part])


def _write(file: Path, examples: Sequence[Example]) -> None:
    # Private data, as a participant's own would be: readable by its owner alone.
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in example_lines(examples))
    write_atomically(file, lines.encode(), mode=0o600)
