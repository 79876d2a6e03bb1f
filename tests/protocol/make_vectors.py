"""Write the golden vectors of docs/protocol.md: `python -m tests.protocol.make_vectors`.

Everything is computed by reference.py, never by protocol/. Bytes are 0x-prefixed hex, integers
that JSON cannot hold are decimal strings, and arrays are flat, so that Solidity reads the files
with vm.parseJson. A vector is never edited: what alters a digest adds new ones.
"""

import json
import math
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.protocol import reference

FOLDER = Path(__file__).parent.parent / "vectors"
MAX = 2**31 - 1

Vectors = dict[str, Any]


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def encoding() -> Vectors:
    half = 2.0**-25
    values = [0.0, 1.0, -1.0, 0.5, 0.1, -0.1, half, 3 * half, -half, -3 * half, half * 1.0000001]
    values += [math.pi, -math.e, 1e-30, 127.0, -127.99999994039536, MAX / 2**24, -MAX / 2**24]
    refused = [math.nan, math.inf, -math.inf, 128.0, -128.0, 127.99999999, -127.99999999, 1e300]
    layer = [reference.encode(value, 24) or 0 for value in values]
    return {
        "fraction_bits": 24,
        "values": [repr(value) for value in values],
        "float64": [hexed(struct.pack(">d", value)) for value in values],
        "encoded": [reference.encode(value, 24) for value in values],
        "refused": [repr(value) for value in refused],
        "refused_float64": [hexed(struct.pack(">d", value)) for value in refused],
        "layer": {
            "shape": [3, 6],
            "leaf_values": 4,
            "values": layer,
            "file": hexed(reference.layer_file(layer, 4)),
        },
    }


def tree() -> Vectors:
    rng = random.Random(4)
    cases = []
    for leaves, leaf_bytes in [(n, 32) for n in (1, 2, 3, 4, 5, 7, 8, 9, 16, 21)] + [(3, 1024)]:
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
    return {
        "leaf_of_nothing": hexed(reference.leaf(b"")),
        "node_of_zeros": hexed(reference.node(reference.ZERO, reference.ZERO)),
        "empty_subtrees": [hexed(digest) for digest in empty],
        "case_count": len(cases),
        "cases": cases,
    }


def average() -> Vectors:
    rng = random.Random(7)
    ties = [[1, -1, 3, -3, 5, 0, 7, -7], [2, -2, 4, -4, 6, -1, 8, -8]]
    extremes = [[MAX, -MAX, MAX, -MAX], [MAX, -MAX, -MAX, MAX]]
    inputs = [
        ([1], [[0, 1, -1, MAX, -MAX]]),
        ([1, 1], ties),
        ([1, 2], ties),
        ([3, 1], [[-2, 1, -6, 5], [2, -1, 2, 3]]),
        ([1, MAX - 1], extremes),
        ([2**30, 2**30 - 1], extremes),
        ([MAX], [[MAX, -MAX, 1, -1]]),
    ]
    for participants, count in ((3, 16), (16, 8), (64, 8)):
        limit = MAX // participants
        weights = [rng.randint(1, limit) for _ in range(participants)]
        updates = [[rng.randint(-MAX, MAX) for _ in range(count)] for _ in weights]
        inputs.append((weights, updates))
    cases = []
    for weights, updates in inputs:
        mean = reference.average(updates, weights)
        cases.append(
            {
                "weights": weights,
                "updates": updates,
                "mean": mean,
                "update_bytes": [hexed(reference.layer_file(update, 1)) for update in updates],
                "mean_bytes": hexed(reference.layer_file(mean, 1)),
            }
        )
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
    cases = []
    for index in range(12):
        seed, participant = rng.randbytes(32), reference.address(index)
        draw = reference.eligibility_draw(seed, participant)
        exact = draw * 10_000 // (2**256 - 1)  # about the smallest fraction that asks them
        cases += [
            {
                "seed": hexed(seed),
                "participant": participant,
                "draw": str(draw),
                "fraction": fraction,
                "eligible": reference.is_eligible(draw, fraction),
            }
            for fraction in (max(exact, 1), min(exact + 1, 10_000), 10_000)
        ]
    return {"case_count": len(cases), "cases": cases}


NAMES = [
    f"base_model.model.model.layers.{layer}.self_attn.{target}.lora_{side}.weight"
    for layer in range(2)
    for target in ("q_proj", "v_proj")
    for side in ("A", "B")
]
LAYERS = [(name, [16, 96] if ".lora_A" in name else [64, 16]) for name in NAMES]


def spec_document() -> Vectors:
    def digest(text: str) -> str:
        return reference.sha256(text.encode()).hex()

    return {
        "version": 1,
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
        "lora": {
            "rank": 16,
            "alpha": 32,
            "dropout": 0.05,
            "targets": ["q_proj", "v_proj"],
            "mode": "fedit",
        },
        "encoding": {"fraction_bits": 24, "value_bytes": 4, "leaf_values": 256},
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
        "sampling_fraction": 10_000,
        "screening": {"max_update_norm": 10.0},
        "libraries": {"torch": "2.13.0", "peft": "0.21.2", "transformers": "5.23.0"},
    }


def spec() -> Vectors:
    document = spec_document()
    raw = reference.canonical(document)
    leaf_values = document["encoding"]["leaf_values"]
    leaves = [-(-math.prod(shape) // leaf_values) for _, shape in LAYERS]
    return {
        "document": document,
        "bytes": hexed(raw),
        "digest": hexed(reference.sha256(raw)),
        "cid": reference.cid(raw),
        "layer_bytes": [count * leaf_values * 4 for count in leaves],
        "leaf_count": sum(leaves),
        "tree_depth": math.ceil(math.log2(sum(leaves))),
    }


def spec_options() -> Vectors:
    """Fields that came later: in the bytes only where they are not at their defaults."""
    base = spec_document()
    over_rounds = {"scheduler": "cosine", "rounds": 100, "final_learning_rate": 0.00025}
    chosen: list[Vectors] = [
        {**base, "template": "vicuna"},
        {**base, "training": {**base["training"], "over_rounds": over_rounds}},
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
        {**base, "training": {**base["training"], "over_rounds": None}},
        {**base, "training": {**base["training"], "proximal_mu": 0}},
        {**base, "training": {**base["training"], "padding_side": "right"}},
        {**base, "training": {**base["training"], "gradient_checkpointing": False}},
    ]
    accepted = []
    for document in chosen:
        raw = reference.canonical(document)
        accepted.append(
            {"document": document, "bytes": hexed(raw), "digest": hexed(reference.sha256(raw))}
        )
    refused = [hexed(reference.canonical(document)) for document in spelled_out]
    return {"case_count": len(accepted), "cases": accepted, "refused": refused}


def manifest_document() -> Vectors:
    rng = random.Random(5)
    files = []
    for _, shape in LAYERS:
        values = [rng.randint(-(2**22), 2**22) for _ in range(math.prod(shape))]
        files.append(reference.layer_file(values, 256))
    return {
        "version": 1,
        "chain_id": 31337,
        "federation": reference.address(100),
        "round": 12,
        "kind": "update",
        "spec": reference.sha256(reference.canonical(spec_document())).hex(),
        "root": reference.root(b"".join(files), 1024).hex(),
        "layers": [
            {
                "name": name,
                "shape": shape,
                "cid": reference.cid(data),
                "sha256": reference.sha256(data).hex(),
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
        "a field left out": raw.replace(b',"version":1', b""),
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
    }
    return {
        "document": document,
        "bytes": hexed(raw),
        "digest": hexed(reference.sha256(raw)),
        "cid": reference.cid(raw),
        "refused_why": list(bent),
        "refused_bytes": [hexed(data) for data in bent.values()],
    }


def norms() -> Vectors:
    rng = random.Random(6)
    pairs = [
        ([0, 1, -1, 65_535, 65_536, -65_536, -65_537], [0] * 7),
        ([MAX] * 4, [-MAX] * 4),
        ([-MAX] * 4, [MAX] * 4),
        *([[rng.randint(-MAX, MAX) for _ in range(16)] for _ in range(2)] for _ in range(2)),
    ]
    limits = [("1", 24), ("0.3", 24), ("10.5", 24), ("0.1", 0), ("1234567.1", 30), ("0.7", 30)]
    return {
        "updates": [update for update, _ in pairs],
        "models": [model for _, model in pairs],
        "norms_squared": [str(reference.norm_squared(new, old)) for new, old in pairs],
        "max_update_norms": [decimal for decimal, _ in limits],
        "fraction_bits": [bits for _, bits in limits],
        "limits": [str(reference.norm_squared_limit(*limit)) for limit in limits],
    }


def verdict_rows() -> list[list[tuple[str, int, int, int]]]:
    a, b, c, d = (reference.address(index) for index in range(4))
    cases = [
        [(a, 1, 10_000, 0)],
        [(a, 1, 10_000, 0), (b, 1, 10_000, 0), (c, 1, 10_000, 0)],
        [(a, 500, 10_000, 0), (b, 0, 0, 8), (c, 250, 9_999, 0), (d, 0, 0, 10)],
        [(a, 7, 0, 0), (b, 3, 0, 0)],
        [(a, 0, 0, 1)],
        [],
        [(reference.address(i), 1 + i * 97_003 % 1_000_000, 10_000, 0) for i in range(64)],
    ]
    return [sorted(rows, key=lambda row: int(row[0], 16)) for rows in cases]


def _columns(rows: list[tuple[str, int, int, int]]) -> Vectors:
    return {
        "participants": [row[0] for row in rows],
        "weights": [row[1] for row in rows],
        "scores": [row[2] for row in rows],
        "reasons": [row[3] for row in rows],
    }


def verdicts() -> Vectors:
    cases = [
        {**_columns(rows), "hash": hexed(reference.verdicts_hash(rows))} for rows in verdict_rows()
    ]
    return {"case_count": len(cases), "cases": cases}


def payouts() -> Vectors:
    cases = []
    for reward in (100, 10**18, 3 * 10**24 + 7, 0):
        for rows in verdict_rows():
            paid = reference.payouts(reward, rows)
            cases.append(
                {
                    "reward": str(reward),
                    **_columns(rows),
                    "payouts": [str(paid.get(row[0], 0)) for row in rows],
                    "remainder": str(reward - sum(paid.values())),
                }
            )
    return {"case_count": len(cases), "cases": cases}


FILES: dict[str, Callable[[], Vectors]] = {
    "encoding.json": encoding,
    "tree.json": tree,
    "average.json": average,
    "commitments.json": commitments,
    "eligibility.json": eligibility,
    "spec.json": spec,
    "spec_options.json": spec_options,
    "manifest.json": manifest,
    "norms.json": norms,
    "verdicts.json": verdicts,
    "payouts.json": payouts,
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
