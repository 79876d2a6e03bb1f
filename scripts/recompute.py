"""Recompute a root or an average from layer files, with Python's standard library alone.

    python scripts/recompute.py root FILE...
    python scripts/recompute.py average --weights 3,5 DIR DIR [--expect ROOT]

This is docs/protocol.md §3, §4 and §7 written a second time, slowly and plainly, for whoever
would rather trust two pages than a package. It imports nothing of Commonweight.

`root` takes the layer files of one update or model in the order of the spec. `average` takes a
folder for each accepted participant, which holds its layer files so named that sorting the names
puts them in that order, and the weights in the order of the folders. The root is printed alone on
the last line. With --expect, exit status 1 says that the root is another one.
"""

import argparse
import hashlib
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ZERO = bytes(32)


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


def average_leaf(leaves: list[bytes], weights: list[int]) -> bytes:
    """Return the weighted mean of the same leaf of every participant (§7)."""
    # Integers throughout; (2s + t) // 2t rounds s/t to the nearest, halves upwards.
    total = sum(weights)
    form = f">{len(leaves[0]) // 4}i"
    means = []
    for values in zip(*(struct.unpack(form, leaf) for leaf in leaves), strict=True):
        weighted = sum(weight * value for weight, value in zip(weights, values, strict=True))
        means.append((2 * weighted + total) // (2 * total))
    return struct.pack(form, *means)


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


def average_layers(folders: list[Path], weights: list[int], leaf_bytes: int) -> Iterator[bytes]:
    """Yield the averaged leaves of all layers, in order."""
    if len(folders) != len(weights):
        raise BadInputError(f"{len(weights)} weights for {len(folders)} folders")
    # Below 2^31 a sum of weighted 32-bit values fits 64 bits, as the contract and NumPy need.
    if min(weights) < 1 or sum(weights) >= 2**31:
        raise BadInputError("each weight must be at least 1, and all together less than 2^31")
    files = [layer_files(folder) for folder in folders]
    for folder, paths in zip(folders, files, strict=True):
        sizes = [path.stat().st_size for path in paths]
        if sizes != [path.stat().st_size for path in files[0]]:
            raise BadInputError(f"{folder} has not the same layer sizes as {folders[0]}")
    # One leaf of each at a time: the files may be larger than memory.
    streams = [read_layers(paths, leaf_bytes) for paths in files]
    for leaves in zip(*streams, strict=True):
        yield average_leaf(list(leaves), weights)


def parse_weights(text: str) -> list[int]:
    """Return the integers in "3,5"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 3,5") from None


def parse_leaf_values(text: str) -> int:
    """Return a positive integer."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of values")
    return int(text)


def main() -> int:
    """Print the root; return 1 when it is not the expected one, 2 on bad input."""
    title = "Recompute a root or an average from layer files (docs/protocol.md §3, §4, §7)."
    parser = argparse.ArgumentParser(description=title)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--leaf-values", type=parse_leaf_values, default=256, metavar="N")
    shared.add_argument("--expect", metavar="ROOT", help="64 hex digits, with or without 0x")
    commands = parser.add_subparsers(dest="command", required=True)
    root = commands.add_parser("root", parents=[shared], help="of one update or model")
    root.add_argument("paths", nargs="+", type=Path, metavar="FILE")
    average = commands.add_parser("average", parents=[shared], help="of several updates")
    average.add_argument("--weights", required=True, type=parse_weights, metavar="3,5")
    average.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    options = parser.parse_args()
    leaf_bytes = 4 * options.leaf_values
    try:
        if options.command == "root":
            leaves = read_layers(options.paths, leaf_bytes)
        else:
            leaves = average_layers(options.paths, options.weights, leaf_bytes)
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
