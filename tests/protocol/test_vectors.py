"""Both implementations against the golden vectors, which Solidity replays as well."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from protocol.average import weighted_mean
from protocol.checks import Check
from protocol.cid import RAW, digest_of_raw_cid, format_cid, parse_cid, raw_cid
from protocol.commitment import compute_commitment, compute_update_digest, is_eligible
from protocol.encoding import encode_values, layer_bytes, layer_values
from protocol.errors import Misconfigured, Rejected
from protocol.manifest import Manifest
from protocol.payout import compute_payouts
from protocol.screening import norm_squared_limit, sum_of_squares
from protocol.spec import Spec
from protocol.tree import (
    ZERO,
    compute_proof,
    compute_root,
    is_proof_valid,
    leaf_digest,
    leaf_digests,
    node_digest,
    stream_proof,
    tree_depth,
)
from protocol.types import Address, BasisPoints, Digest, RoundId, TokenUnits
from protocol.verdict import Verdict, verdicts_hash
from tests.protocol import make_vectors


def load(name: str) -> Any:
    return json.loads((make_vectors.FOLDER / name).read_text(encoding="utf-8"))


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def digest(text: str) -> Digest:
    assert len(raw(text)) == 32
    return Digest(raw(text))


@pytest.mark.parametrize("name", make_vectors.FILES)
def test_the_committed_file_is_what_the_reference_makes(name: str) -> None:
    committed = (make_vectors.FOLDER / name).read_text(encoding="utf-8")
    assert committed == make_vectors.text(make_vectors.FILES[name]())


def test_encoding() -> None:
    vectors = load("encoding.json")
    floats = [struct.unpack(">d", raw(bits))[0] for bits in vectors["float64"]]
    assert [repr(value) for value in floats] == vectors["values"]
    encoded = encode_values(np.array(floats), vectors["fraction_bits"])
    assert encoded.tolist() == vectors["encoded"]
    for bits in vectors["refused_float64"]:
        with pytest.raises(Rejected):
            encode_values(np.array(struct.unpack(">d", raw(bits))), vectors["fraction_bits"])
    layer = vectors["layer"]
    values = np.array(layer["values"], np.int32).reshape(layer["shape"])
    assert layer_bytes(values, layer["leaf_values"]) == raw(layer["file"])
    back = layer_values(raw(layer["file"]), tuple(layer["shape"]), layer["leaf_values"])
    np.testing.assert_array_equal(back, values)


def test_tree() -> None:
    vectors = load("tree.json")
    assert leaf_digest(b"") == raw(vectors["leaf_of_nothing"])
    assert node_digest(ZERO, ZERO) == raw(vectors["node_of_zeros"])
    for case in vectors["cases"]:
        data, size = raw(case["data"]), case["leaf_bytes"]
        assert compute_root([data], size) == raw(case["root"])
        assert tree_depth(case["leaf_count"]) == case["depth"]
        for proof in case["proofs"]:
            siblings = [digest(sibling) for sibling in proof["siblings"]]
            assert compute_proof(leaf_digests([data], size), proof["index"]) == siblings
            leaf = raw(proof["leaf"])
            assert stream_proof([data], size, proof["index"]) == (leaf, siblings)
            assert is_proof_valid(digest(case["root"]), leaf, proof["index"], siblings)


def test_average() -> None:
    for case in load("average.json")["cases"]:
        updates = [np.frombuffer(raw(text), ">i4") for text in case["update_bytes"]]
        assert [update.tolist() for update in updates] == case["updates"]
        mean = weighted_mean(updates, case["weights"])
        assert mean.tolist() == case["mean"]
        assert layer_bytes(mean, 1) == raw(case["mean_bytes"])


def test_commitments() -> None:
    for case in load("commitments.json")["cases"]:
        root, manifest, examples = digest(case["root"]), digest(case["manifest"]), case["examples"]
        commitment = compute_commitment(
            Address(case["federation"]),
            RoundId(int(case["round"])),
            Address(case["participant"]),
            root,
            manifest,
            int(examples),
            raw(case["salt"]),
        )
        assert commitment == raw(case["commitment"])
        assert compute_update_digest(root, manifest, int(examples)) == raw(case["update_digest"])


def test_eligibility() -> None:
    answers = set()
    for case in load("eligibility.json")["cases"]:
        fraction = BasisPoints(case["fraction"])
        answer = is_eligible(digest(case["seed"]), Address(case["participant"]), fraction)
        assert answer == case["eligible"]
        answers.add(answer)
    assert answers == {True, False}


def test_spec() -> None:
    vectors = load("spec.json")
    spec = Spec.model_validate(vectors["document"])
    assert spec.to_bytes() == raw(vectors["bytes"])
    assert Spec.parse(raw(vectors["bytes"])) == spec
    assert spec.digest() == raw(vectors["digest"])
    assert raw_cid(spec.digest()) == vectors["cid"]
    assert [spec.layer_bytes(i) for i in range(len(spec.layers))] == vectors["layer_bytes"]
    assert (spec.leaf_count, spec.tree_depth) == (vectors["leaf_count"], vectors["tree_depth"])


def test_spec_options() -> None:
    vectors = load("spec_options.json")
    for case in vectors["cases"]:
        spec = Spec.model_validate(case["document"])
        assert spec.to_bytes() == raw(case["bytes"])
        assert Spec.parse(raw(case["bytes"])) == spec
        assert spec.digest() == raw(case["digest"])
    for case in vectors["refused"]:
        with pytest.raises(Misconfigured, match="not canonical JSON"):
            Spec.parse(raw(case))


def test_learning_rates_over_the_rounds() -> None:
    document = load("spec_options.json")["cases"][1]["document"]
    training = Spec.model_validate(document).training
    assert training.learning_rate_in(1) == training.learning_rate == 0.0005
    assert training.learning_rate_in(51) == pytest.approx(0.000375)
    assert training.learning_rate_in(101) == training.learning_rate_in(500) == 0.00025
    rates = [training.learning_rate_in(number) for number in range(1, 102)]
    assert rates == sorted(rates, reverse=True)


def test_manifest() -> None:
    vectors = load("manifest.json")
    manifest = Manifest.parse(raw(vectors["bytes"]))
    assert manifest == Manifest.model_validate(vectors["document"])
    assert manifest.to_bytes() == raw(vectors["bytes"])
    assert manifest.digest() == raw(vectors["digest"])
    assert raw_cid(manifest.digest()) == vectors["cid"]
    assert digest_of_raw_cid(vectors["cid"]) == raw(vectors["digest"])


def test_refused_manifests() -> None:
    vectors = load("manifest.json")
    for why, data in zip(vectors["refused_why"], vectors["refused_bytes"], strict=True):
        with pytest.raises(Rejected) as caught:
            Manifest.parse(raw(data))
        assert caught.value.check == Check.MANIFEST, why


def test_norms() -> None:
    vectors = load("norms.json")
    columns = zip(vectors["updates"], vectors["models"], vectors["norms_squared"], strict=True)
    for update, model, expected in columns:
        difference = np.array(update, np.int64) - np.array(model, np.int64)
        assert sum_of_squares(difference) == int(expected)
    rows = zip(
        vectors["max_update_norms"], vectors["fraction_bits"], vectors["limits"], strict=True
    )
    for decimal, bits, limit in rows:
        assert norm_squared_limit(float(decimal), bits) == int(limit)


def verdicts_of(case: Any) -> list[Verdict]:
    columns = (case["participants"], case["weights"], case["scores"], case["reasons"])
    return [Verdict(Address(p), w, BasisPoints(s), r) for p, w, s, r in zip(*columns, strict=True)]


def test_verdicts() -> None:
    for case in load("verdicts.json")["cases"]:
        assert verdicts_hash(verdicts_of(case)) == raw(case["hash"])


def test_payouts() -> None:
    for case in load("payouts.json")["cases"]:
        paid = compute_payouts(TokenUnits(int(case["reward"])), verdicts_of(case))
        expected = zip(case["participants"], case["payouts"], case["reasons"], strict=True)
        assert paid == {who: int(amount) for who, amount, reason in expected if reason == 0}
        assert int(case["reward"]) - sum(paid.values()) == int(case["remainder"])


def test_cids_of_another_implementation() -> None:
    answers = [file for file in load("cids.json")["files"] if file["cid_version"] == 1]
    raw_blocks = 0
    for answer in answers:
        codec, block = parse_cid(answer["cid"])
        assert format_cid(codec, block) == answer["cid"]
        if codec == RAW:
            assert raw_cid(digest(answer["sha256"])) == answer["cid"]
            raw_blocks += 1
    assert 0 < raw_blocks < len(answers)
