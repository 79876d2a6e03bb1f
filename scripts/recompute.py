"""Recompute a root or an average from layer files, with Python's standard library alone.

    python scripts/recompute.py root update|model FILE...
    python scripts/recompute.py average --before DIR --grid 13 --weights 3,5 DIR DIR [--expect ROOT]

This is docs/protocol.md §3, §4 and §7 written a second time, slowly and plainly, for whoever
would rather trust two pages than a package. It imports nothing of Commonweight.

`root` takes the layer files of one update or model in the order of the spec. `average` takes the
folder of the model before, the round's grid, a folder for each accepted participant, and the
weights in the order of these folders. A folder holds layer files so named that sorting the names
puts them in the order of the spec. The root is printed alone on the last line. With --expect, exit
status 1 says that the root is another one.
"""

import argparse
import hashlib
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ZERO = bytes(32)
LEAF_BYTES = {"update": 256, "model": 1024}


class BadInputError(Exception):
    """Something the user gave cannot be worked on; the text is one line."""


def compute_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over the leaves (§4)."""
    # The prefix keeps a leaf from passing for a node, and the other way round (second preimages).
    row = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    if not row:
        raise BadInputError("no leaves: the files are empty")
    empty = ZERO  # what stands right of the last leaf, and the node over two of those, and so on
    while len(row) > 1:
        if len(row) % 2:
            row.append(empty)
        row = [_node(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        empty = _node(empty, empty)
    return row[0]


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def move_leaf(before: bytes, updates: list[bytes], weights: list[int], grid: int) -> bytes:
    """Return a leaf of the new model: the old one, moved by the mean of the differences (§7)."""
    # Integers throughout; (2n + t) // 2t rounds n/t to the nearest, halves upwards.
    total, shift = sum(weights), 24 - grid
    after = []
    columns = zip(*(struct.unpack(">256b", update) for update in updates), strict=True)
    for old, steps in zip(struct.unpack(">256i", before), columns, strict=True):
        weighted = sum(weight * step for weight, step in zip(weights, steps, strict=True))
        weighted = max(-127 * total, min(127 * total, weighted))
        moved = old + (2 ** (shift + 1) * weighted + total) // (2 * total)
        after.append(max(1 - 2**31, min(2**31 - 1, moved)))
    return struct.pack(">256i", *after)


def read_leaves(path: Path, leaf_bytes: int) -> Iterator[bytes]:
    """Yield the leaves of a layer file (§3)."""
    with path.open("rb") as file:
        while leaf := file.read(leaf_bytes):
            if len(leaf) < leaf_bytes:
                raise BadInputError(f"{path} is not a whole number of {leaf_bytes}-byte leaves")
            yield leaf


def read_layers(paths: Iterable[Path], leaf_bytes: int) -> Iterator[bytes]:
    """Yield the leaves of several layer files, one after the other."""
    for path in paths:
        yield from read_leaves(path, leaf_bytes)


def layer_files(folder: Path) -> list[Path]:
    """Return the files in `folder`, sorted by name."""
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder with layer files")
    return sorted(path for path in folder.iterdir() if path.is_file())


def average_layers(
    before: Path, folders: list[Path], weights: list[int], grid: int
) -> Iterator[bytes]:
    """Yield the new model's leaves of all layers, in order."""
    if len(folders) != len(weights):
        raise BadInputError(f"{len(weights)} weights for {len(folders)} folders")
    if min(weights) < 1 or sum(weights) >= 2**24:
        raise BadInputError("each weight must be at least 1, and all together less than 2^24")
    files = [layer_files(folder) for folder in (before, *folders)]
    sizes = [path.stat().st_size for path in files[0]]
    for folder, paths in zip(folders, files[1:], strict=True):
        if sizes != [LEAF_BYTES["model"] // LEAF_BYTES["update"] * p.stat().st_size for p in paths]:
            raise BadInputError(f"{folder} is no update of {before}: its layers have other sizes")
    # One leaf of each at a time: the files may be larger than memory.
    models = read_layers(files[0], LEAF_BYTES["model"])
    updates = [read_layers(paths, LEAF_BYTES["update"]) for paths in files[1:]]
    for old, *steps in zip(models, *updates, strict=True):
        yield move_leaf(old, steps, weights, grid)


def parse_weights(text: str) -> list[int]:
    """Return the integers in "3,5"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 3,5") from None


def main() -> int:
    """Print the root; return 1 when it is not the expected one, 2 on bad input."""
    title = "Recompute a root or an average from layer files (docs/protocol.md §3, §4, §7)."
    parser = argparse.ArgumentParser(description=title)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--expect", metavar="ROOT", help="64 hex digits, with or without 0x")
    commands = parser.add_subparsers(dest="command", required=True)
    root = commands.add_parser("root", parents=[shared], help="of one update or model")
    root.add_argument("kind", choices=list(LEAF_BYTES))
    root.add_argument("paths", nargs="+", type=Path, metavar="FILE")
    average = commands.add_parser("average", parents=[shared], help="the model after a round")
    average.add_argument("--before", required=True, type=Path, metavar="DIR", help="the old model")
    average.add_argument("--grid", required=True, type=int, choices=range(25), metavar="0…24")
    average.add_argument("--weights", required=True, type=parse_weights, metavar="3,5")
    average.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    options = parser.parse_args()
    try:
        if options.command == "root":
            leaves = read_layers(options.paths, LEAF_BYTES[options.kind])
        else:
            leaves = average_layers(options.before, options.paths, options.weights, options.grid)
        found = compute_root(leaves).hex()
    except (BadInputError, OSError) as error:
        print(f"recompute: {error}", file=sys.stderr)
        return 2
    expected = found if options.expect is None else options.expect.lower().removeprefix("0x")
    if found != expected:
        print(f"recompute: the root is not {expected}", file=sys.stderr)
    print(f"0x{found}")
    return 0 if found == expected else 1


if __name__ == "__main__":
    sys.exit(main())
