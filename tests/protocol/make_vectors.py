"""Write the golden vectors of docs/protocol.md: `python -m tests.protocol.make_vectors`.

Everything is computed by reference.py, never by protocol/. Bytes are 0x-prefixed hex, integers
that JSON cannot hold are decimal strings, and arrays are flat, so that Solidity reads the files
with vm.parseJson. tests/vectors/README.md names the fields.
"""

import json
import math
import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.protocol import reference

FOLDER = Path(__file__).parent.parent / "vectors"
MAX = 2**31 - 1
KINDS = ("update", "model")

Vectors = dict[str, Any]


def as_number(address: str) -> int:
    return int(address, 16)


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def bits(values: list[float]) -> list[str]:
    """IEEE 754 float64, big-endian."""
    return [hexed(struct.pack(">d", value)) for value in values]


def encoding() -> Vectors:
    half = 2.0**-25
    values = [0.0, 1.0, -1.0, 0.5, 0.1, -0.1, half, 3 * half, -half, -3 * half, half * 1.0000001]
    values += [math.pi, -math.e, 1e-30, 127.0, -127.99999994039536, MAX / 2**24, -MAX / 2**24]
    refused = [math.nan, math.inf, -math.inf, 128.0, -128.0, 127.99999999, -127.99999999, 1e300]
    layer = [reference.encode(value) or 0 for value in values]
    return {
        "values": [repr(value) for value in values],
        "float64": bits(values),
        "encoded": [reference.encode(value) for value in values],
        "refused": [repr(value) for value in refused],
        "refused_float64": bits(refused),
        "layer": {
            "shape": [3, 6],
            "values": layer,
            "file": hexed(reference.layer_file(layer, "model")),
        },
    }


def differences() -> Vectors:
    rng = random.Random(2)
    step = 2.0**-13
    inputs: list[tuple[int, list[int], list[float], list[float]]] = [
        # Ties go to the even step, on both sides of zero.
        (13, [0] * 8, [k * step / 2 for k in (1, 3, 5, -1, -3, -5, 2, -2)], [0.0] * 8),
        # Held at 127 steps, and just not.
        (13, [0] * 6, [k * step for k in (127, 127.4, 127.5, -127.4, -127.6, 1e6)], [0.0] * 6),
        # What is carried tips the scale, and is carried on.
        (13, [5 * 2**11] * 4, [5 * step] * 4, [step * k for k in (0.4, 0.6, -0.5, -0.51)]),
        (0, [MAX, -MAX, 0, 0], [0.0, 0.0, 126.5, -300.0], [0.0, 0.0, 0.5, 0.25]),
        (24, [MAX, 1, -1, 0], [MAX / 2**24, 0.0, 0.0, 2.0**-24], [0.0] * 4),
    ]
    for grid in (7, 13, 20):
        before = [rng.randint(-(2**25), 2**25) for _ in range(16)]
        after = [old / 2**24 + rng.gauss(0, 50) * 2.0**-grid for old in before]
        inputs.append((grid, before, after, [rng.uniform(-0.5, 0.5) * 2.0**-grid for _ in after]))
    cases = []
    for grid, before, after, carried in inputs:
        rows = [
            reference.difference(*row, grid) for row in zip(before, after, carried, strict=True)
        ]
        cases.append(
            {
                "grid": grid,
                "before": before,
                "after_float64": bits(after),
                "carried_float64": bits(carried),
                "steps": [row[0] for row in rows],
                "carried_on_float64": bits([row[1] for row in rows]),
            }
        )
    schedules = [
        (bits_, every, round_id)
        for bits_, every in ((13, 0), (13, 50), (23, 1), (0, 3), (24, 7))
        for round_id in (1, 2, 3, 4, 50, 51, 101, 2**53 - 1)
    ]
    # Values, and how often each of them occurs.
    trials: list[tuple[list[float], list[int]]] = [
        ([0.0, 1.0], [999, 1]),
        ([0.0, 2.0], [1999, 2]),
        ([0.0, 2.0], [1999, 3]),
        ([126.9 / 3 * 2.0**-9, -126.9 / 3 * 2.0**-9], [2, 1]),
        ([127.1 / 3 * 2.0**-9, -127.1 / 3 * 2.0**-9], [2, 1]),
        ([rng.gauss(0, 0.0045) for _ in range(60)], [rng.randint(1, 99) for _ in range(60)]),
        ([0.001, 0.5], [997, 3]),
        ([2.0**-40, 0.0], [1, 1]),
        ([40.0, -40.0], [1, 1]),
        ([43.0, -43.0], [1, 1]),
        ([0.0], [2]),
    ]
    layer = [rng.randint(-127, 127) for _ in range(300)]
    return {
        "case_count": len(cases),
        "cases": cases,
        "schedules": {
            "grid_bits": [row[0] for row in schedules],
            "grid_every": [row[1] for row in schedules],
            "rounds": [row[2] for row in schedules],
            "grids": [reference.grid_of_round(*row) for row in schedules],
        },
        "trials": [
            {
                "float64": bits(values),
                "counts": counts,
                "grid": reference.choose_grid(
                    [v for v, n in zip(values, counts, strict=True) for _ in range(n)]
                ),
            }
            for values, counts in trials
        ],
        "layer": {
            "shape": [3, 100],
            "values": layer,
            "file": hexed(reference.layer_file(layer, "update")),
        },
    }


def tree() -> Vectors:
    rng = random.Random(4)
    cases = []
    counts = [(n, 256) for n in (1, 2, 3, 4, 5, 7, 8, 9, 16, 21)]
    for leaves, leaf_bytes in [*counts, *((n, 1024) for n in (1, 3, 6))]:
        data = rng.randbytes(leaves * leaf_bytes)
        indices = sorted({0, leaves // 2, leaves - 1})
        cases.append(
            {
                "leaf_bytes": leaf_bytes,
                "leaf_count": leaves,
                "depth": len(reference.rows(data, leaf_bytes)) - 1,
                "data": hexed(data),
                "root": hexed(reference.root(data, leaf_bytes)),
                "proofs": [
                    {
                        "index": index,
                        "leaf": hexed(data[index * leaf_bytes : (index + 1) * leaf_bytes]),
                        "siblings": [
                            hexed(sibling) for sibling in reference.proof(data, leaf_bytes, index)
                        ],
                    }
                    for index in indices
                ],
            }
        )
    empty = [reference.ZERO]
    for _ in range(8):
        empty.append(reference.node(empty[-1], empty[-1]))
    zero_counts = [1, 2, 3, 4, 5, 6, 7, 8, 100, 255, 256, 257]
    return {
        "leaf_of_nothing": hexed(reference.leaf(b"")),
        "node_of_zeros": hexed(reference.node(reference.ZERO, reference.ZERO)),
        "empty_subtrees": [hexed(digest) for digest in empty],
        "zero_leaf_counts": zero_counts,
        "zero_roots": [hexed(reference.zero_root(count)) for count in zero_counts],
        "case_count": len(cases),
        "cases": cases,
    }


def leaf_of(values: list[int], rng: random.Random, most: int) -> list[int]:
    """A whole leaf: `values`, then random ones within `most`."""
    return values + [rng.randint(-most, most) for _ in range(256 - len(values))]


def average() -> Vectors:
    rng = random.Random(7)
    top = 2**24 - 1
    # Grid, weights, the first values of the model before and of each update; random ones follow.
    inputs: list[tuple[int, list[int], list[int], list[list[int]]]] = [
        (13, [1], [0, 1, -1, MAX, -MAX], [[0, 1, -1, 127, -127]]),
        # Ties go upwards: at grid 24 a step is a quantum.
        (24, [1, 1], [0] * 8, [[1, -1, 3, -3, 5, 0, 7, -7], [2, -2, 4, -4, 6, -1, 8, -8]]),
        (24, [3, 1], [0] * 4, [[-2, 1, -6, 5], [2, -1, 2, 3]]),
        (23, [1, 2], [7] * 4, [[1, -1, 2, -2], [2, -2, 1, -1]]),
        # The largest sums, and the bounds of the model.
        (0, [1, top - 1], [0, 0, MAX, -MAX], [[127, -127, 127, -127], [127, -127, 127, -127]]),
        (0, [2**23, 2**23 - 1], [0, 0, 1, -1], [[127, -127, 127, -127], [-127, 127, 126, -126]]),
        (0, [top], [0, 0, 2**24, -(2**24)], [[127, -127, 127, -127]]),
        (24, [top], [MAX, -MAX, MAX - 1, 1 - MAX], [[1, -1, 2, -2]]),
        # -128 is in no accepted update, and still has one mean: the sum is held.
        (13, [1], [0, MAX, -MAX], [[-128, -128, -128]]),
        (0, [5, 7], [0, 0, 0], [[-128, -128, -128], [-128, -127, 127]]),
        (0, [top], [0, 1, -MAX], [[-128, -128, -128]]),
    ]
    for participants, grid in ((3, 13), (16, 20), (40, 0), (64, 13)):
        limit = top // participants
        inputs.append((grid, [rng.randint(1, limit) for _ in range(participants)], [], []))
    cases = []
    for grid, weights, first, firsts in inputs:
        before = leaf_of(first, rng, MAX)
        updates = [leaf_of(values, rng, 127) for values in firsts or [[] for _ in weights]]
        after = reference.move(before, updates, weights, grid)
        cases.append(
            {
                "grid": grid,
                "weights": weights,
                "update_bytes": [hexed(reference.layer_file(u, "update")) for u in updates],
                "before_bytes": hexed(reference.layer_file(before, "model")),
                "after_bytes": hexed(reference.layer_file(after, "model")),
            }
        )
    return {"case_count": len(cases), "cases": cases}


def moves() -> Vectors:
    rng = random.Random(11)
    cases = []
    for grid in (0, 13, 24):
        most = 127 * 2 ** (24 - grid)
        before = leaf_of([], rng, MAX - 1)
        still = [
            max(-MAX, min(MAX, old + rng.choice([-most, most, 0, 1, -1, most // 2])))
            for old in before
        ]
        pairs = [(before, before), (before, still)]
        # One value at the limit, and one beyond, at the ends of the leaf and of the range.
        for place in (0, 255):
            for direction in (1, -1):
                for beyond in (0, 1):
                    old, new = before.copy(), still.copy()
                    old[place] = -direction * (MAX - 2)
                    new[place] = old[place] + direction * (most + beyond)
                    pairs.append((old, new))
        old, new = before.copy(), still.copy()
        old[128], new[128] = MAX, -MAX - 1  # a difference of 2^32 - 1
        pairs.append((old, new))
        cases += [
            {
                "grid": grid,
                "most_moved": most,
                "before_bytes": hexed(reference.layer_file(old, "model")),
                "after_bytes": hexed(reference.layer_file(new, "model")),
                "is_bounded": reference.is_bounded(old, new, grid),
            }
            for old, new in pairs
        ]
    return {"case_count": len(cases), "cases": cases}


def commitments() -> Vectors:
    rng = random.Random(8)
    cases = []
    for index, (round_id, examples) in enumerate([(1, 1), (12, 25_000), (2**64, 2**32), (7, 0)]):
        federation, participant = reference.address(100 + index), reference.address(index)
        root, manifest, salt = (rng.randbytes(32) for _ in range(3))
        digest = reference.commitment(
            federation, round_id, participant, root, manifest, examples, salt
        )
        cases.append(
            {
                "federation": federation,
                "round": str(round_id),
                "participant": participant,
                "root": hexed(root),
                "manifest": hexed(manifest),
                "examples": str(examples),
                "salt": hexed(salt),
                "commitment": hexed(digest),
                "update_digest": hexed(reference.update_digest(root, manifest, examples)),
            }
        )
    return {"case_count": len(cases), "cases": cases}


def eligibility() -> Vectors:
    rng = random.Random(9)
    seeds = []
    for index, round_id in enumerate((1, 2, 12, 2**64)):
        federation, block_hash = reference.address(100 + index), rng.randbytes(32)
        prevrandao = (rng.getrandbits(256), 0, 2**256 - 1, rng.getrandbits(64))[index]
        seeds.append(
            {
                "federation": federation,
                "round": str(round_id),
                "block_hash": hexed(block_hash),
                "prevrandao": str(prevrandao),
                "seed": hexed(reference.seed(federation, round_id, block_hash, prevrandao)),
            }
        )
    cases = []
    for index in range(12):
        seed, participant = rng.randbytes(32), reference.address(index)
        draw = reference.eligibility_draw(seed, participant)
        active = rng.randint(50, 60_000)
        exact = draw // ((2**256 - 1) // active)  # the largest target that does not ask them
        choices = {(active, min(max(exact + k, 1), active)) for k in (0, 1)} | {(exact or 1,) * 2}
        choices |= {(41, 40), (40, 40), (3, 40)}
        cases += [
            {
                "seed": hexed(seed),
                "participant": participant,
                "draw": str(draw),
                "active": seats,
                "round_target": target,
                "eligible": reference.is_eligible(draw, seats, target),
            }
            for seats, target in sorted(choices)
        ]
    return {"seed_count": len(seeds), "seeds": seeds, "case_count": len(cases), "cases": cases}


NAMES = [
    f"base_model.model.model.layers.{layer}.self_attn.{target}.lora_{side}.weight"
    for layer in range(2)
    for target in ("q_proj", "v_proj")
    for side in ("A", "B")
]
LAYERS = [(name, [16, 96] if ".lora_A" in name else [64, 16]) for name in NAMES]
# Longer than a block of 1 MiB as a model, shorter as an update.
LAYERS.insert(0, ("base_model.model.model.embed_tokens.lora_embedding_A", [8, 49_152]))


def spec_document() -> Vectors:
    def digest(text: str) -> str:
        return reference.sha256(text.encode()).hex()

    return {
        "version": 2,
        "base_model": {
            "name": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            "weights_digest": digest("weights"),
            "tokenizer_digest": digest("tokenizer"),
            "chat_template_digest": digest("chat template"),
        },
        "quantization": {
            "kind": "nf4",
            "double_quantization": True,
            "compute_dtype": "float32",
        },
        "adapter": {
            "kind": "lora",
            "rank": 16,
            "alpha": 32,
            "dropout": 0.05,
            "targets": ["q_proj", "v_proj"],
            "mode": "fedit",
        },
        "encoding": {"grid_bits": 13, "grid_every": 50},
        "layers": [{"name": name, "shape": shape} for name, shape in LAYERS],
        "training": {
            "learning_rate": 0.0005,
            "batch_size": 4,
            "steps": 25,
            "sequence_length": 192,
            "scheduler": "cosine",
            "warmup_steps": 2,
            "seed": 20261101,
        },
        "evaluation_digest": digest("evaluation"),
        "screening": {"min_norm": 100},
        "scoring": "equal",
        "privacy": "clear",
        "libraries": {"torch": "2.13.0", "peft": "0.21.2", "transformers": "5.23.0"},
    }


def spec() -> Vectors:
    document = spec_document()
    raw = reference.canonical(document)
    leaves = [-(-math.prod(shape) // 256) for _, shape in LAYERS]
    blank = {
        kind: [reference.layer_file([0] * math.prod(s), kind) for _, s in LAYERS] for kind in KINDS
    }
    return {
        "document": document,
        "bytes": hexed(raw),
        "digest": hexed(reference.sha256(raw)),
        "cid": reference.cid(raw),
        "layer_bytes": {kind: [len(file) for file in files] for kind, files in blank.items()},
        "block_counts": {
            kind: [len(reference.blocks(file)) for file in files] for kind, files in blank.items()
        },
        "leaf_count": sum(leaves),
        "tree_depth": math.ceil(math.log2(sum(leaves))),
        "zero_root": hexed(reference.zero_root(sum(leaves))),
    }


def spec_options() -> Vectors:
    """Optional fields: in the bytes only where they are not at their defaults."""
    base = spec_document()
    over_rounds = {"scheduler": "cosine", "rounds": 100, "final_learning_rate": 0.00025}
    chosen: list[Vectors] = [
        {**base, "template": "vicuna"},
        {**base, "screening": {"min_norm": 1, "max_update_norm": 10}},
        {**base, "screening": {"min_norm": 1, "max_update_norm": 0.3}},
        {**base, "training": {**base["training"], "over_rounds": over_rounds}},
        {**base, "scoring": "heldOut", "held_out": {"gain": "whole", "tolerance": 100}},
        {**base, "scoring": "heldOut", "held_out": {"gain": "new", "tolerance": 0}},
        {**base, "privacy": "masked", "screening": {"min_norm": 1, "max_update_norm": 10}},
        {
            **base,
            "template": "alpaca",
            "training": {
                **base["training"],
                "over_rounds": over_rounds,
                "proximal_mu": 0.01,
                "padding_side": "left",
                "gradient_checkpointing": True,
            },
        },
    ]
    spelled_out: list[Vectors] = [
        {**base, "template": "chat"},
        {**base, "screening": {"min_norm": 100, "max_update_norm": None}},
        {**base, "training": {**base["training"], "over_rounds": None}},
        {**base, "training": {**base["training"], "proximal_mu": 0}},
        {**base, "training": {**base["training"], "padding_side": "right"}},
        {**base, "training": {**base["training"], "gradient_checkpointing": False}},
        {**base, "held_out": None},
    ]
    accepted = []
    for document in chosen:
        raw = reference.canonical(document)
        accepted.append(
            {"document": document, "bytes": hexed(raw), "digest": hexed(reference.sha256(raw))}
        )
    refused = [hexed(reference.canonical(document)) for document in spelled_out]
    return {"case_count": len(accepted), "cases": accepted, "refused": refused}


def manifest_document(kind: str = "update") -> Vectors:
    rng = random.Random(5)
    most = 127 if kind == "update" else 2**22
    files = []
    for _, shape in LAYERS:
        # A hundred values over and over: to draw each of a large layer takes seconds.
        values = [rng.randint(-most, most) for _ in range(100)] * -(-math.prod(shape) // 100)
        files.append(reference.layer_file(values[: math.prod(shape)], kind))
    return {
        "version": 2,
        "chain_id": 31337,
        "federation": reference.address(100),
        "round": 12,
        "kind": kind,
        "spec": reference.sha256(reference.canonical(spec_document())).hex(),
        "root": reference.root(b"".join(files), 256 if kind == "update" else 1024).hex(),
        "layers": [
            {
                "name": name,
                "shape": shape,
                "blocks": [reference.sha256(block).hex() for block in reference.blocks(data)],
            }
            for (name, shape), data in zip(LAYERS, files, strict=True)
        ],
    }


def manifest() -> Vectors:
    document = manifest_document()
    raw = reference.canonical(document)
    bent = {
        "a space after the first colon": raw.replace(b":", b": ", 1),
        "a line feed at the end": raw + b"\n",
        "a byte order mark": b"\xef\xbb\xbf" + raw,
        "keys in another order": json.dumps(document, separators=(",", ":")).encode(),
        "a key twice": raw.replace(b'"round":12', b'"round":12,"round":12'),
        "a field left out": raw.replace(b',"version":2', b""),
        "a null field": reference.canonical({**document, "version": None}),
        "an unknown field": reference.canonical({**document, "weight": 1}),
        "a number as text": reference.canonical({**document, "round": "12"}),
        "a fraction": raw.replace(b'"round":12', b'"round":12.0'),
        "a number of 2^53": raw.replace(b'"round":12', b'"round":9007199254740992'),
        "a digest in capitals": reference.canonical({**document, "root": document["root"].upper()}),
        "an address without capitals": reference.canonical(
            {**document, "federation": document["federation"].lower()}
        ),
        "an unknown kind": reference.canonical({**document, "kind": "weights"}),
        "another version": reference.canonical({**document, "version": 1}),
        "a block in capitals": raw.replace(
            document["layers"][0]["blocks"][0].encode(),
            document["layers"][0]["blocks"][0].upper().encode(),
        ),
        "a layer without blocks": raw.replace(b'"blocks":', b'"parts":', 1),
    }
    losses: Vectors = {
        "before": 2_375_100,
        "average": 2_318_400,
        "without": [
            {"participant": who, "loss": 2_320_000 + 1_000 * number}
            for number, who in enumerate(sorted(map(reference.address, range(4)), key=as_number))
        ],
    }
    scored = {**manifest_document("model"), "losses": losses}
    rows: list[Vectors] = losses["without"]
    bent |= {
        "an update with losses": reference.canonical({**document, "losses": losses}),
        "losses spelled out as none": reference.canonical({**scored, "losses": None}),
        "losses of nobody": reference.canonical({**scored, "losses": {**losses, "without": []}}),
        "losses in another order": reference.canonical(
            {**scored, "losses": {**losses, "without": rows[::-1]}}
        ),
        "a loss twice": reference.canonical(
            {**scored, "losses": {**losses, "without": [rows[0], *rows]}}
        ),
        "a loss beyond all": reference.canonical(
            {**scored, "losses": {**losses, "before": 1e9 + 1}}
        ),
        "a loss that is a fraction": reference.canonical(
            {**scored, "losses": {**losses, "average": 0.5}}
        ),
    }
    masked = {**manifest_document("masked"), "bundle": 32 * "b1"}
    bent |= {
        "a masked update without a bundle": reference.canonical(manifest_document("masked")),
        "an update with a bundle": reference.canonical({**document, "bundle": masked["bundle"]}),
        "a sum": reference.canonical({**document, "kind": "sum"}),
    }
    cases = []
    for each in (document, manifest_document("model"), scored, masked):
        data = reference.canonical(each)
        cases.append(
            {
                "document": each,
                "bytes": hexed(data),
                "digest": hexed(reference.sha256(data)),
                "cid": reference.cid(data),
            }
        )
    return {
        "case_count": len(cases),
        "cases": cases,
        "refused_why": list(bent),
        "refused_bytes": [hexed(data) for data in bent.values()],
    }


def norms() -> Vectors:
    """Updates of one layer, with what checks 7, 8, 9 and 11 make of them."""
    rng = random.Random(6)
    zeros = [0] * 300
    one = [1, *zeros[1:]]
    ends = [127, -127] * 150
    inputs: list[tuple[list[int], int, str | None, int]] = [
        (zeros, 13, None, 1),
        (one, 13, None, 1),
        (one, 13, None, 2),
        ([1, -1, 1, 1, *zeros[4:]], 13, None, 2),
        (ends, 13, None, 100),
        (ends, 13, None, 2200),
        # 300 · 127² = 4,838,700: the norm is 2,199.7 steps, which is 0.26852 at grid 13.
        (ends, 13, "0.2685", 1),
        (ends, 13, "0.26852", 1),
        (ends, 13, "0.26853", 1),
        (ends, 0, "2199.7", 1),
        (ends, 0, "2200", 2200),
        (ends, 24, "0.0001", 1),
        # At the limit itself, which passes.
        ([3, 4, *zeros[2:]], 0, "5", 5),
        ([3, 4, 1, *zeros[3:]], 0, "5", 5),
        ([3, 4, 1, *zeros[3:]], 24, "0.1", 6),
        (zeros, 13, "0.5", 1),
        ([-128, *zeros[1:]], 13, None, 1),
        ([-128] * 300, 0, "1", 1),
    ]
    inputs += [([rng.randint(-127, 127) for _ in range(300)], 13, "0.157", 1) for _ in range(3)]
    cases = [
        {
            "values": values,
            "grid": grid,
            "max_update_norm": limit,
            "min_norm": least,
            "squared_norm": str(reference.product(values, values)),
            "reason": reference.reason(values + [0] * 212, 212, grid, limit, least),
        }
        for values, grid, limit, least in inputs
    ]
    limits = [("1", 24), ("0.3", 24), ("10.5", 24), ("0.1", 0), ("1234567.1", 20), ("0.7", 13)]
    return {
        "max_update_norms": [decimal for decimal, _ in limits],
        "grids": [grid for _, grid in limits],
        "limits": [str(reference.norm_squared_limit(*limit)) for limit in limits],
        "case_count": len(cases),
        "cases": cases,
    }


def similarity() -> Vectors:
    rng = random.Random(12)
    a = [rng.randint(-127, 127) for _ in range(64)]
    noise = [rng.randint(-127, 127) for _ in range(64)]
    far = 127 * 2**24
    pairs = [
        (a, a),
        (a, [-x for x in a]),
        (a, [0] * 64),
        ([0] * 64, [0] * 64),
        (a, noise),
        (a, [x // 2 for x in a]),  # another grid's
        *(
            (a, [reference.held(x + y // k, 127) for x, y in zip(a, noise, strict=True)])
            for k in (1, 2, 3, 4, 20)
        ),
        ([1, 0, 0], [0, 1, 0]),
        ([9, 0, 0, 0], [9, 1, 4, 1]),
        # At 9,000 and just below: 9² + 19 = 100.
        ([10, 0, 0, 0, 0], [9, 3, 3, 1, 0]),
        ([10, 0, 0, 0, 0], [9, 3, 3, 2, 0]),
        ([127] * 64, [-127] * 64),
    ]
    # The other vectors are movements of the model, in quanta.
    movements = [
        (a, [x * 2**11 for x in a]),
        (a, [x * 2**11 + y * 2**9 for x, y in zip(a, noise, strict=True)]),
        ([127, -127] * 32, [far, -far] * 32),
        ([127, -127] * 32, [-far, far] * 32),
        (a, [rng.randint(-far, far) for _ in a]),
        (a, [2**32 - 1 if x > 0 else 1 - 2**32 for x in a]),
        (a, [0] * 64),
    ]
    return {
        "cases": [
            {
                "a": one,
                "b": other,
                "is_movement": k >= len(pairs),
                "product": str(reference.product(one, other)),
                "squares_a": str(reference.product(one, one)),
                "squares_b": str(reference.product(other, other)),
                "similarity": reference.similarity(one, other),
            }
            for k, (one, other) in enumerate(pairs + movements)
        ]
    }


@dataclass(frozen=True)
class Revealed:
    """What a participant revealed, and what was made of it."""

    participant: str
    root: bytes
    manifest: bytes
    examples: int
    reason: int

    def row(self, weight_cap: int) -> reference.Row:
        revealed = reference.update_digest(self.root, self.manifest, self.examples)[:30]
        if self.reason:
            return (self.participant, revealed, 0, 0, self.reason)
        return (self.participant, revealed, min(self.examples, weight_cap), 10_000, 0)


def verdict_cases() -> list[tuple[int, list[Revealed]]]:
    """Weight caps and reveals, in ascending order of address."""
    rng = random.Random(10)
    outcomes: list[tuple[int, list[tuple[int, int]]]] = [
        (1, [(1, 0)]),
        (100, [(100, 0), (250, 0), (2**32 - 1, 0)]),
        (100, [(7, 0), (50, 8), (99, 0), (1000, 12)]),
        (100, [(50, 1)]),
        (100, [(1, 2), (1, 11)]),
        (250_000, []),
        (250_000, [(1 + i * 97_003 % 300_000, 7 if i % 9 == 4 else 0) for i in range(64)]),
    ]
    cases = []
    for cap, rows in outcomes:
        reveals = [
            Revealed(reference.address(i), rng.randbytes(32), rng.randbytes(32), *row)
            for i, row in enumerate(rows)
        ]
        cases.append((cap, sorted(reveals, key=lambda each: int(each.participant, 16))))
    return cases


def _columns(weight_cap: int, reveals: list[Revealed]) -> Vectors:
    rows = [each.row(weight_cap) for each in reveals]
    return {
        "weight_cap": weight_cap,
        "participants": [row[0] for row in rows],
        "roots": [hexed(each.root) for each in reveals],
        "manifests": [hexed(each.manifest) for each in reveals],
        "examples": [each.examples for each in reveals],
        "revealed": [hexed(row[1] + bytes(2)) for row in rows],
        "weights": [row[2] for row in rows],
        "scores": [row[3] for row in rows],
        "reasons": [row[4] for row in rows],
    }


def verdicts() -> Vectors:
    cases = []
    for cap, reveals in verdict_cases():
        rows = [each.row(cap) for each in reveals]
        cases.append({**_columns(cap, reveals), "hash": hexed(reference.verdicts_hash(rows))})
    return {"case_count": len(cases), "cases": cases}


def payouts() -> Vectors:
    cases = []
    for update_reward, aggregator_fee in (
        (100, 10),
        (10**18, 5 * 10**17),
        (3 * 10**24 + 7, 3),
        (0, 0),
    ):
        for cap, reveals in verdict_cases():
            rows = [each.row(cap) for each in reveals]
            paid = reference.payouts(update_reward, cap, rows)
            revealed_weight = sum(min(each.examples, cap) for each in reveals)
            cases.append(
                {
                    "update_reward": str(update_reward),
                    "aggregator_fee": str(aggregator_fee),
                    **_columns(cap, reveals),
                    "revealed_weight": revealed_weight,
                    "payouts": [str(paid.get(each.participant, 0)) for each in reveals],
                    "fee": str(reference.fee(aggregator_fee, rows, revealed_weight)),
                }
            )
    return {"case_count": len(cases), "cases": cases}


def scores() -> Vectors:
    rng = random.Random(17)
    far = 10**9
    inputs: list[tuple[int, int, list[int]]] = [
        # One update alone: without it the model stays as it was.
        (2_500_000, 2_400_000, [2_500_000]),
        (2_400_000, 2_500_000, [2_400_000]),
        # Honest updates of a real round; then with noise and a flipped sign beside them.
        (2_375_100, 2_318_400, [2_321_500, 2_336_300, 2_333_300, 2_325_100]),
        (2_375_100, 2_330_000, [2_333_000, 2_349_000, 2_340_000, 2_330_200, 2_290_000]),
        # Nobody gains; then harm has no measure.
        (2_375_100, 2_318_400, [2_318_400, 2_318_399, 1_000_000]),
        # The average does not lower the loss: nothing is paid, and harm is still left out.
        (2_300_000, 2_300_000, [2_310_000, 2_301_000, 2_200_000]),
        (2_300_000, 2_400_000, [2_450_000, 2_399_000]),
        # At the reference gain itself, and one millionth beyond it, in both directions.
        (100, 10, [20, 20, 0, 10]),
        (100, 20, [30, 30, 10, 9]),
        (100, 20, [29, 31, 10, 21]),
        # Many of next to no gain do not move the reference.
        (1_000_000, 500_000, [500_001] * 60 + [600_000] * 4),
        # Losses that are no numbers.
        (2_000_000, far, [2_000_000, far]),
        (far, 2_000_000, [far, 2_000_001]),
        (0, 0, [0]),
    ]
    inputs += [
        (
            2_400_000,
            2_390_000,
            [2_390_000 + rng.randint(-9_000, 9_000) for _ in range(rng.randint(1, 64))],
        )
        for _ in range(6)
    ]
    cases = []
    for before, average_loss, without in inputs:
        earned, harm = reference.scores(before, average_loss, without)
        cases.append(
            {
                "before": before,
                "average": average_loss,
                "without": without,
                "scores": earned,
                "harm": harm,
            }
        )
    losses = [0.0, 2.5, 2.3184005, 2.3184015, 5e-7, 1.5e-6, 1e-9, -0.1, 999.9999996, 1e300]
    losses += [math.inf, math.nan, 2.3751, 1 / 3]
    return {
        "float64": bits(losses),
        "millionths": [reference.millionths(loss) for loss in losses],
        "case_count": len(cases),
        "cases": cases,
    }


def projections() -> Vectors:
    """The last vector of some cases is a movement of the model, in quanta."""
    rng = random.Random(23)

    def drawn(most: int) -> list[int]:
        return [rng.randint(-most, most) for _ in range(12)]

    a, b, c = drawn(127), drawn(127), drawn(60)
    movement = [x * 2**10 + y * 2**11 for x, y in zip(a, b, strict=True)]
    noisy = [x + rng.randint(-20, 20) for x in c]
    inputs: list[tuple[list[list[int]], list[int]]] = [
        ([a], a),
        ([a], [-x for x in a]),
        ([a], [0] * 12),
        ([[0] * 12], a),
        ([a, a, b], c),  # the second is spanned by the first
        ([a, b, [x + y for x, y in zip(a, b, strict=True)]], c),
        ([a, b, movement], c),  # so is the movement
        ([a, movement], b),
        ([a, b, c], noisy),
        ([a, b, c, movement], [127 if x > 0 else -127 for x in c]),
        ([[1] + [0] * 11], [127] * 12),
        ([[x * 2**24 for x in a]], b),
        ([drawn(127) for _ in range(9)], drawn(127)),
    ]
    cases = []
    for older, update in inputs:
        found = reference.coefficients(older, update)
        cases.append(
            {
                "older": older,
                "update": update,
                "coefficients_float64": bits(found),
                "repeated": reference.repeated_part(older, found),
            }
        )
    return {"cases": cases}


# --------------------------------------------------------------------------------------------- §13


def ascending(addresses: list[str]) -> list[str]:
    return sorted(addresses, key=as_number)


def masking() -> Vectors:
    """Rounds of one leaf: what each published, what the accepted opened, and the sum."""
    rng = random.Random(31)
    seeds = [bytes(32), bytes([255]) * 32, rng.randbytes(32)]
    streams = [
        {
            "seed": hexed(seed),
            "leaf": leaf,
            "stream": hexed(struct.pack(">256I", *reference.stream(seed, leaf))),
        }
        for seed in seeds
        for leaf in (0, 1, 6_321, 2**32 - 1)
    ]
    # Grid, leaf, weights, which of them are accepted, and who published garbage.
    inputs: list[tuple[int, int, list[int], list[int], int | None]] = [
        (13, 0, [1, 1, 1], [0, 1, 2], None),
        (13, 7, [80, 3, 80, 41], [0, 1, 3], None),
        (20, 2**32 - 1, [2**24 - 3, 1, 1], [0, 1, 2], None),
        (0, 7_199, [rng.randint(1, 80) for _ in range(16)], [*range(11)], None),
        (24, 12, [5, 6, 7, 8, 9], [1, 2, 3, 4], 2),
    ]
    cases = []
    for grid, leaf, weights, accepted, garbler in inputs:
        who = ascending([reference.address(1000 * leaf + i) for i in range(len(weights))])
        own = {each: rng.randbytes(32) for each in who}
        pairs = {
            frozenset((a, b)): rng.randbytes(32) for i, a in enumerate(who) for b in who[i + 1 :]
        }
        updates = [leaf_of([127, -127, 0, 1, -1], rng, 127) for _ in who]
        published = []
        for i, each in enumerate(who):
            seeds_of = {peer: pairs[frozenset((each, peer))] for peer in who if peer != each}
            y = reference.masked(updates[i], weights[i], each, own[each], seeds_of, leaf)
            published.append([rng.getrandbits(32) for _ in y] if i == garbler else y)
        # What is opened: the accepted one's own seed, and those it shares with who is left out.
        opened: list[tuple[bytes, int]] = []
        for i in accepted:
            opened.append((own[who[i]], 1))
            opened += [
                (pairs[frozenset((who[i], who[j]))], 1 if i < j else -1)
                for j in range(len(who))
                if j not in accepted
            ]
        sums = [0] * 256
        for i in accepted:
            sums = [a + b for a, b in zip(sums, published[i], strict=True)]
        for seed, sign in opened:
            known = reference.stream(seed, leaf)
            sums = [a - sign * b for a, b in zip(sums, known, strict=True)]
        sums = [reference.signed(value) for value in sums]
        total = sum(weights[i] for i in accepted)
        before = leaf_of([MAX, -MAX], rng, MAX)
        cases.append(
            {
                "grid": grid,
                "leaf": leaf,
                "participants": who,
                "weights": weights,
                "update_bytes": [hexed(reference.layer_file(u, "update")) for u in updates],
                "own_seeds": [hexed(own[each]) for each in who],
                "pair_seeds": [
                    [hexed(pairs[frozenset((a, b))]) if a != b else "0x" for b in who] for a in who
                ],
                "masked_bytes": [hexed(struct.pack(">256I", *y)) for y in published],
                "accepted": accepted,
                "opened_seeds": [hexed(seed) for seed, _ in opened],
                "opened_signs": [sign for _, sign in opened],
                "total_weight": total,
                "sum_bytes": hexed(struct.pack(">256i", *sums)),
                "before_bytes": hexed(reference.layer_file(before, "model")),
                "after_bytes": hexed(
                    reference.layer_file(reference.move_by_sum(before, sums, total, grid), "model")
                ),
            }
        )
    return {
        "stream_count": len(streams),
        "streams": streams,
        "case_count": len(cases),
        "cases": cases,
    }


def little(number: int) -> bytes:
    return number.to_bytes(32, "little")


SMALL_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    2**255 - 20,
    2**255 - 19,
    2**255 - 18,
]


def copies_of(key: bytes) -> dict[str, bytes]:
    """Other keys that lead to the secrets of this one."""
    number = int.from_bytes(key, "little")
    return {
        "the same": key,
        "the highest bit set": little(number | 2**255),
        "1/u": little(pow(number, -1, reference.P25519)),
    }


def pair_keys() -> Vectors:
    rng = random.Random(32)
    cases = []
    for index, (chain_id, round_id) in enumerate([(1, 1), (31_337, 12), (2**64, 2**53 - 1)]):
        federation = reference.address(200 + index)
        low, high = ascending([reference.address(300 + index), reference.address(310 + index)])
        one, other = rng.randbytes(32), rng.randbytes(32)
        key = reference.x25519(other, reference.BASE_POINT)
        of = (chain_id, federation, round_id, one, low, high, key)
        cases.append(
            {
                "chain_id": str(chain_id),
                "federation": federation,
                "round": str(round_id),
                "participants": [low, high],
                "private_keys": [hexed(one), hexed(other)],
                "public_keys": [hexed(reference.x25519(one, reference.BASE_POINT)), hexed(key)],
                "pair_seed": hexed(reference.pair_secret(b"mask", *of)),
                "share_keys": [
                    hexed(reference.pair_secret(b"share", *of, suffix=reference.word(who)[12:]))
                    for who in (low, high)
                ],
            }
        )
    # A third seat publishes a copy of the second's key: the first has another seed with each.
    private, victim = rng.randbytes(32), reference.x25519(rng.randbytes(32), reference.BASE_POINT)
    own, peer, copier = (reference.address(320 + i) for i in range(3))
    of_copies = []
    for why, key in copies_of(victim).items():
        assert reference.x25519(private, key) == reference.x25519(private, victim)
        of_copies.append(
            {
                "why": why,
                "public_key": hexed(key),
                "pair_seed": hexed(
                    reference.pair_secret(
                        b"mask", 31_337, reference.address(200), 12, private, own, copier, key
                    )
                ),
            }
        )
    refused = [little(number + top) for number in SMALL_ORDER for top in (0, 2**255)]
    near = [little(number) for number in (2, 9, 2**255 - 21, 2**255 - 17, SMALL_ORDER[2] + 1)]
    commits = []
    for index, examples in enumerate((1, 80, 2**32 - 1)):
        federation, participant = reference.address(200 + index), reference.address(330 + index)
        key, salt = rng.randbytes(32), rng.randbytes(32)
        commits.append(
            {
                "federation": federation,
                "round": str(12**index),
                "participant": participant,
                "public_key": hexed(key),
                "examples": str(examples),
                "salt": hexed(salt),
                "commitment": hexed(
                    reference.masked_commitment(
                        federation, 12**index, participant, key, examples, salt
                    )
                ),
            }
        )
    return {
        "case_count": len(cases),
        "cases": cases,
        "copied": {
            "chain_id": 31_337,
            "federation": reference.address(200),
            "round": 12,
            "private_key": hexed(private),
            "participant": own,
            "victim": peer,
            "victim_key": hexed(victim),
            "victim_seed": hexed(
                reference.pair_secret(
                    b"mask", 31_337, reference.address(200), 12, private, own, peer, victim
                )
            ),
            "copier": copier,
            "keys": of_copies,
        },
        "small_order_keys": [hexed(key) for key in refused],
        "other_keys": [hexed(key) for key in near],
        "commitment_count": len(commits),
        "commitments": commits,
    }


def shares() -> Vectors:
    rng = random.Random(33)
    inputs = [(bytes(32), 1, [1]), (bytes([255]) * 32, 2, [1, 2]), (rng.randbytes(32), 2, [2, 3])]
    inputs += [
        (rng.randbytes(32), threshold, [x for x in range(1, n + 1) if x != dealer])
        for n, dealer, threshold in ((4, 2, 3), (6, 1, 4), (16, 9, 11), (32, 32, 21))
    ]
    cases = []
    for secret, threshold, places in inputs:
        randomness = rng.randbytes(32 * (threshold - 1))
        made = reference.split(secret, threshold, places, randomness)
        chosen = rng.sample(list(zip(places, made, strict=True)), threshold)
        assert reference.recover(dict(chosen)) == secret
        cases.append(
            {
                "secret": hexed(secret),
                "threshold": threshold,
                "places": places,
                "randomness": hexed(randomness),
                "shares": [hexed(share) for share in made],
            }
        )
    boxes = []
    for count in (3, 16):
        key, nonce = rng.randbytes(32), rng.randbytes(12)
        plain = [rng.randbytes(32) for _ in range(count)]
        boxes.append(
            {
                "key": hexed(key),
                "nonce": hexed(nonce),
                "shares": [hexed(share) for share in plain],
                "box": hexed(reference.sealed(key, b"".join(plain), nonce)),
            }
        )
    peers = list(range(2, 32))
    return {
        "peers": peers,
        "thresholds": [k if k <= 4 else 2 * k // 3 + 1 for k in peers],
        "case_count": len(cases),
        "cases": cases,
        "box_count": len(boxes),
        "boxes": boxes,
    }


def bundles() -> Vectors:
    rng = random.Random(34)
    cases, raw = [], b""
    for n, threshold in ((3, 2), (6, 4)):
        dealer, *others = (reference.address(400 + 10 * n + i) for i in range(n))
        peers = ascending(others)
        own_seed = rng.randbytes(32)
        pair_seeds = {peer: rng.randbytes(32) for peer in peers}
        keys = {peer: rng.randbytes(32) for peer in peers}
        randomness = rng.randbytes(32 * (threshold - 1) * n + 12 * (n - 1))
        raw = reference.bundle(dealer, own_seed, pair_seeds, keys, threshold, randomness)
        commitments = [reference.keccak256(seed) for seed in (own_seed, *pair_seeds.values())]
        cases.append(
            {
                "dealer": dealer,
                "peers": peers,
                "own_seed": hexed(own_seed),
                "pair_seeds": [hexed(seed) for seed in pair_seeds.values()],
                "share_keys": [hexed(key) for key in keys.values()],
                "threshold": threshold,
                "randomness": hexed(randomness),
                "bytes": hexed(raw),
                "commitments": [hexed(each) for each in commitments],
                "secrets": hexed(reference.keccak256(b"".join(commitments))),
            }
        )
    one, two = raw[2:22], raw[22:42]
    bent = {
        "nothing": b"",
        "the first byte alone": raw[:1],
        "another version": b"\x02" + raw[1:],
        "one peer": b"\x01\x01" + raw[2:22] + raw[102 : 102 + 64 + 92 + 64],
        "32 peers": b"\x01\x20" + raw[2:],
        "a byte too few": raw[:-1],
        "a byte too many": raw + b"\0",
        "a peer more than its size": b"\x01\x06" + raw[2:],
        "peers in another order": raw[:2] + two + one + raw[42:],
        "a peer twice": raw[:2] + one + one + raw[42:],
    }
    return {
        "case_count": len(cases),
        "cases": cases,
        "peers": list(range(2, 32)),
        "sizes": [2 + 20 * k + 32 * (k + 1) + k * (28 + 64 * (k + 1)) for k in range(2, 32)],
        "refused_why": list(bent),
        "refused_bytes": [hexed(data) for data in bent.values()],
    }


def sketches() -> Vectors:
    rng = random.Random(35)
    seeds = []
    for prevrandao in (0, rng.getrandbits(256), 2**256 - 1):
        block_hash = rng.randbytes(32)
        seeds.append(
            {
                "block_hash": hexed(block_hash),
                "prevrandao": str(prevrandao),
                "z": hexed(reference.sketch_seed(block_hash, prevrandao)),
            }
        )
    z = rng.randbytes(32)
    coordinates = [(0, 0), (0, 255), (1, 0), (6_321, 77), (2**32 - 1, 255)]
    cases = []
    for leaf, most, weight in ((0, 127, 1), (5, 127, 80), (2**32 - 2, 1, 2**24 - 1), (9, 0, 3)):
        update = [rng.randint(-most, most) for _ in range(512)]
        found = [weight * value for value in reference.sketch(update, z, leaf)]
        cases.append(
            {
                "z": hexed(z),
                "leaf": leaf,
                "weight": weight,
                "update_bytes": hexed(reference.layer_file(update, "update")),
                "sketch": [str(value) for value in found],
                "sketch_bytes": hexed(struct.pack(">128q", *found)),
            }
        )
    # Sums that masks left, and the masks themselves: any 32 bits.
    wide = []
    for is_signed in (True, False):
        low, high = (-(2**31), 2**31 - 1) if is_signed else (0, 2**32 - 1)
        values = [low, high, *(rng.randint(low, high) for _ in range(254))]
        wide.append(
            {
                "is_signed": is_signed,
                "leaf": 3,
                "z": hexed(z),
                "values": [str(value) for value in values],
                "sketch": [str(value) for value in reference.sketch(values, z, 3)],
            }
        )
    # 2 · 100 · 832² = 169 · 128 · 10² · 8², and 2 · 169 · 80² = 100 · 128 · 13²: on the limits.
    zeros = [0] * 126
    judged: list[tuple[list[int], int, str, int, int]] = [
        ([832, 0, *zeros], 10, "8", 0, 1),
        ([-832, 1, *zeros], 10, "8", 0, 1),
        ([0, 80, *zeros], 1, "8", 13, 13),
        ([0, -80, *zeros], 13, "8", 13, 1),
        ([79, 0, *zeros], 1, "8", 13, 13),
        ([0] * 128, 1, "0.5", 13, 1),
        ([1] * 128, 1, "0.5", 13, 1),
        ([1] * 128, 2, "0.5", 13, 2),
        ([2**62, *[-(2**62)] * 127], 2**24 - 1, "1234567.1", 24, 100),
    ]
    judged += [
        ([round(rng.gauss(0, 80 * norm)) for _ in range(128)], 80, "0.05", 13, 100)
        for norm in (20, 75, 100, 290, 400, 800)
    ]
    a = [rng.randint(-(2**40), 2**40) for _ in range(128)]
    pairs = [a, [2 * x for x in a], [-x for x in a], [0] * 128]
    pairs += [[x + rng.randint(-(2**k), 2**k) for x in a] for k in (37, 38, 39, 40, 41)]
    return {
        "seed_count": len(seeds),
        "seeds": seeds,
        "z": hexed(z),
        "leaves": [leaf for leaf, _ in coordinates],
        "positions": [position for _, position in coordinates],
        "r": [reference.ternary(z, *each) for each in coordinates],
        "case_count": len(cases),
        "cases": cases,
        "wide": wide,
        "judged": [
            {
                "sketch": [str(value) for value in values],
                "weight": weight,
                "max_update_norm": limit,
                "grid": grid,
                "min_norm": least,
                "exceeds": reference.exceeds_limit(values, weight, limit, grid),
                "is_weak": reference.is_weak(values, weight, least),
            }
            for values, weight, limit, grid, least in judged
        ],
        "similar": {
            "sketches": [[str(value) for value in each] for each in pairs],
            "to_the_first": [reference.similarity(each, a) for each in pairs],
        },
    }


def streams() -> Vectors:
    """What a member of a refused set says of its masks: of two leaves, some seeds opened."""
    rng = random.Random(36)
    z, leaf = rng.randbytes(32), 4
    peers = ascending([reference.address(number) for number in range(3)])
    seeds = {peer: rng.randbytes(32) for peer in peers}
    sketches = {
        peer: [
            number % 2**32
            for number in reference.sketch(
                reference.stream(seed, leaf) + reference.stream(seed, leaf + 1), z, leaf
            )
        ]
        for peer, seed in seeds.items()
    }
    accounts = []
    for opened in ([], peers[1:2], peers):
        parts = [
            struct.pack(">128I", *sketches[peer]) + (seeds[peer] if peer in opened else bytes(32))
            for peer in peers
        ]
        accounts.append({"opened": opened, "account": hexed(b"".join(parts))})
    return {
        "z": hexed(z),
        "leaf": leaf,
        "peers": peers,
        "seeds": [hexed(seed) for seed in seeds.values()],
        "sketches": [[str(number) for number in numbers] for numbers in sketches.values()],
        "accounts": accounts,
    }


def openings() -> Vectors:
    """What stands for a masked update in digests: at the reveal, and once it is opened."""
    rng, cases = random.Random(13), []
    for outsiders in (0, 1, 3):
        root, manifest, secrets = (rng.randbytes(32) for _ in range(3))
        seeds = [rng.randbytes(32) for _ in range(1 + outsiders)]
        examples = rng.choice([1, 20, 2**32 - 1])
        bound = reference.bound(manifest, secrets)
        opened = reference.opened(bound, seeds)
        members = ascending([reference.address(number) for number in range(3 + outsiders)])
        cases.append(
            {
                "root": hexed(root),
                "manifest": hexed(manifest),
                "examples": str(examples),
                "secrets": hexed(secrets),
                "seeds": [hexed(seed) for seed in seeds],
                "bound": hexed(bound),
                "revealed_digest": hexed(reference.update_digest(root, bound, examples)),
                "opened": hexed(opened),
                "opened_digest": hexed(reference.update_digest(root, opened, examples)),
                "members": members,
                "members_hash": hexed(reference.members_hash(members)),
            }
        )
    return {"case_count": len(cases), "cases": cases}


FILES: dict[str, Callable[[], Vectors]] = {
    "encoding.json": encoding,
    "differences.json": differences,
    "tree.json": tree,
    "average.json": average,
    "moves.json": moves,
    "commitments.json": commitments,
    "eligibility.json": eligibility,
    "spec.json": spec,
    "spec_options.json": spec_options,
    "manifest.json": manifest,
    "norms.json": norms,
    "similarity.json": similarity,
    "verdicts.json": verdicts,
    "payouts.json": payouts,
    "scores.json": scores,
    "projections.json": projections,
    "masking.json": masking,
    "pair_keys.json": pair_keys,
    "shares.json": shares,
    "bundles.json": bundles,
    "sketches.json": sketches,
    "openings.json": openings,
    "streams.json": streams,
}


def text(vectors: Vectors) -> str:
    """JSON with a line for each innermost array, as people read it."""
    spread = json.dumps(vectors, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^][{}]*\]", lambda match: " ".join(match[0].split()), spread) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (FOLDER / name).write_text(text(make()), encoding="utf-8")


if __name__ == "__main__":
    main()
