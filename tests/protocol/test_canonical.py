"""Canonical JSON, CIDs, specs and manifests: one sequence of bytes, and nothing else passes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.canonical import MAX_DOCUMENT_BYTES, canonical_json, sha256
from protocol.checks import Check
from protocol.cid import digest_of_raw_cid, raw_cid
from protocol.errors import Misconfigured, Rejected
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import Digest, parse_address, parse_digest
from tests.protocol import make_vectors, reference
from tests.protocol.strategies import make_spec

RAW = reference.canonical(make_vectors.manifest_document())
ADAPTER = make_vectors.spec_document()["adapter"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)


@given(json_values)
def test_canonical_json_is_idempotent_and_keeps_the_value(value: Any) -> None:
    raw = canonical_json(value)
    # Decimals without a fraction read back as integers, so integers are compared as floats.
    again = json.loads(raw, parse_int=lambda digits: float(digits))
    assert again == json.loads(json.dumps(value), parse_int=lambda digits: float(digits))
    assert canonical_json(again) == raw


def test_canonical_json_writes_numbers_as_rfc_8785_says() -> None:
    numbers = [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27, 1e-5, 5e-324, 1e21, 1e20, -0.0, 16.0]
    assert canonical_json(numbers) == (
        b"[333333333.3333333,1e+30,4.5,0.002,1e-27,0.00001,5e-324,1e+21,100000000000000000000,0,16]"
    )
    assert canonical_json({"\u20ac": 1, "\r": 2, "1": 3, "\U0001f600": 4}) == (
        b'{"\\r":2,"1":3,"\xe2\x82\xac":1,"\xf0\x9f\x98\x80":4}'
    )


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), "\ud800", {1: 2}, b"x"])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(Misconfigured, match="cannot be written"):
        canonical_json(value)


@given(st.binary(min_size=32, max_size=32))
def test_a_raw_cid_reads_back(data: bytes) -> None:
    cid = raw_cid(Digest(data))
    assert cid.startswith("bafkrei")
    assert digest_of_raw_cid(cid) == data


@given(st.text("abcxyz234567AQm=é\n", max_size=70) | st.just(raw_cid(Digest(bytes(32)))), st.data())
def test_no_other_text_is_a_cid(text: str, data: st.DataObject) -> None:
    cid = raw_cid(sha256(b"x"))
    place = data.draw(st.integers(0, len(cid) - 1))
    bent = cid[:place] + data.draw(st.sampled_from("ab7A1=-é ")) + cid[place + 1 :]
    for candidate in (text, bent):
        try:
            digest = digest_of_raw_cid(candidate)
        except Misconfigured:
            continue
        assert raw_cid(digest) == candidate


def test_addresses_and_digests_are_read_strictly() -> None:
    address = reference.address(1)
    assert parse_address(address) == address
    for bad in (address.lower(), address[:-1], address[2:], ""):
        with pytest.raises(Misconfigured, match="EIP-55"):
            parse_address(bad)
    assert parse_digest("0x" + "0a" * 32) == parse_digest("0a" * 32) == bytes([10]) * 32
    for bad in ("0A" * 32, "0a" * 31, "0x0x" + "0a" * 31, "", " " * 64, "\u0660" * 64):
        with pytest.raises(Misconfigured, match="64 lower-case hex digits"):
            parse_digest(bad)


def test_a_manifest_reads_back_as_itself() -> None:
    manifest = Manifest.parse(RAW)
    assert manifest.to_bytes() == RAW
    assert manifest.digest() == sha256(RAW)
    assert manifest.root_digest.hex() == manifest.root
    first = manifest.layers[0]
    assert [digest.hex() for digest in first.digests] == list(first.blocks)


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_every_byte_counts(place: int, flip: int) -> None:
    bent = bytearray(RAW)
    bent[place] ^= flip
    assert_refused_or_other(bytes(bent))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_rejected(raw: bytes) -> None:
    assert_refused_or_other(raw)


@given(st.integers(0, len(RAW)), st.integers(0, len(RAW)), st.binary(max_size=20))
def test_cut_and_spliced_manifests(start: int, end: int, middle: bytes) -> None:
    assert_refused_or_other(RAW[:start] + middle + RAW[end:])


@given(json_values, st.sampled_from(sorted(make_vectors.manifest_document())))
def test_any_json_in_any_field(value: Any, field: str) -> None:
    document = {**make_vectors.manifest_document(), field: value}
    assert_refused_or_other(canonical_json(document))
    assert_refused_or_other(canonical_json(value))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"round":' + b"9" * 100_000 + b"}",
        b'{"version":1e999}',
        b'{"version":NaN}',
        b'{"round":"\\ud800"}',
        b"\xff\xfe",
        b"\x00" * 64,
        RAW.replace(b'"round":12', b'"round":-1'),
        RAW.replace(b'"version":2', b'"version":true'),
        RAW.replace(b'"version":2', b'"version":3'),
        RAW.replace(b"q_proj", b"q/proj", 1),
        RAW.replace(b"q_proj", b"q_proj\\n", 1),
        RAW.replace(b"[16,96]", b"[]", 1),
        RAW.replace(b"[16,96]", b"[16,0]", 1),
        RAW.replace(b'"blocks":["', b'"blocks":["0', 1),
        RAW.replace(b'"blocks":["', b'"blocks":[7,"', 1),
    ],
)
def test_hostile_manifests(raw: bytes) -> None:
    with pytest.raises(Rejected, match="the manifest is malformed") as caught:
        Manifest.parse(raw)
    assert caught.value.check == Check.MANIFEST
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 400


def test_a_manifest_over_a_mebibyte_is_refused_unread() -> None:
    with pytest.raises(Rejected, match="at most 1,048,576"):
        Manifest.parse(b" " * (MAX_DOCUMENT_BYTES + 1))
    manifest = Manifest.parse(RAW)
    huge = manifest.model_copy(update={"layers": manifest.layers * 1000})
    with pytest.raises(Misconfigured, match="do not fit a block"):
        huge.to_bytes()


def assert_refused_or_other(raw: bytes) -> None:
    try:
        manifest = Manifest.parse(raw)
    except Rejected as error:
        check = error.check
    else:
        assert manifest.to_bytes() == raw
        assert (manifest.digest() == sha256(RAW)) == (raw == RAW)
        return
    assert check == Check.MANIFEST


OLD = f'{{"version":1,"federation":"{reference.address(1)}","lora":{{}},"layers":[]}}'.encode()


def test_files_of_another_version_are_named_in_one_line() -> None:
    line = "this is a file of version 1; version 2 was expected"
    with pytest.raises(Rejected) as rejected:
        Manifest.parse(OLD)
    assert str(rejected.value) == f"check 2: the manifest is malformed: {line}"
    with pytest.raises(Misconfigured) as refused:
        Spec.parse(OLD)
    assert str(refused.value) == f"this is not a spec: {line}"
    for number in (b"0", b"3", b"999"):
        with pytest.raises(Rejected, match=f"file of version {number.decode()}; version 2"):
            Manifest.parse(RAW.replace(b'"version":2', b'"version":' + number))


def test_a_spec_knows_its_sizes() -> None:
    spec = make_spec([(3, 100), (2, 2), (600,)])
    assert [spec.layer_values(i) for i in range(3)] == [300, 4, 600]
    assert [spec.layer_leaves(i) for i in range(3)] == [2, 1, 3]
    assert [spec.layer_bytes(i, "update") for i in range(3)] == [512, 256, 768]
    assert [spec.layer_bytes(i, "model") for i in range(3)] == [2048, 1024, 3072]
    assert (spec.total_bytes("update"), spec.total_bytes("model")) == (1536, 6144)
    assert (spec.leaf_count, spec.tree_depth) == (6, 3)
    assert spec.zero_root == reference.zero_root(6)
    places = [spec.locate_leaf(leaf, "update") for leaf in range(6)]
    assert places == [(0, 0), (0, 256), (1, 0), (2, 0), (2, 256), (2, 512)]
    assert spec.locate_leaf(5, "model") == (2, 2048)
    for leaf in (-1, 6):
        with pytest.raises(Misconfigured, match=f"leaf {leaf} does not exist"):
            spec.locate_leaf(leaf, "update")


@pytest.mark.parametrize(
    ("part", "value", "line"),
    [
        ("layers", [], "layers: "),
        ("layers", [{"name": "b", "shape": [1]}, {"name": "a", "shape": [1]}], "sorted by name"),
        ("layers", [{"name": "a", "shape": [1]}, {"name": "a", "shape": [1]}], "sorted by name"),
        ("layers", [{"name": "a", "shape": [2**20, 2**20]}], "fewer than 2\\^32 are allowed"),
        ("layers", [{"name": "a/b", "shape": [1]}], "layers.0.name: "),
        ("encoding", {"grid_bits": 25, "grid_every": 0}, "encoding.grid_bits: "),
        ("encoding", {"grid_bits": 13, "grid_every": -1}, "encoding.grid_every: "),
        ("encoding", {"grid_bits": 13}, "encoding.grid_every: "),
        ("screening", {"min_norm": 0}, "screening.min_norm: "),
        ("screening", {"min_norm": 1.5}, "screening.min_norm: "),
        ("screening", {"min_norm": 1, "max_update_norm": 0}, "screening.max_update_norm: "),
        ("adapter", {**ADAPTER, "kind": "ia3"}, "adapter.kind: "),
        ("adapter", {**ADAPTER, "mode": "rolora"}, "adapter.mode: "),
        ("scoring", "median", "scoring: "),
        ("scoring", "heldOut", "held_out belongs to a spec with scoring heldOut"),
        ("held_out", {"gain": "whole", "tolerance": 1}, "held_out belongs to a spec"),
        ("held_out", {"gain": "half", "tolerance": 1}, "held_out.gain: "),
        ("held_out", {"gain": "new", "tolerance": -1}, "held_out.tolerance: "),
        ("privacy", "hidden", "privacy: "),
        ("privacy", "masked", "masked updates take a max_update_norm"),
        ("sampling_fraction", 10_000, "sampling_fraction: "),
        ("evaluation_digest", "00", "evaluation_digest: "),
        ("extra", 1, "extra: "),
    ],
)
def test_a_spec_is_checked_field_by_field(part: str, value: Any, line: str) -> None:
    document = {**make_vectors.spec_document(), part: value}
    with pytest.raises(Misconfigured, match=f"this is not a spec: .*{line}"):
        Spec.parse(canonical_json(document))


def test_a_spec_that_is_not_canonical_is_refused() -> None:
    document = make_vectors.spec_document()
    with pytest.raises(Misconfigured, match="not canonical"):
        Spec.parse(json.dumps(document).encode())
    with pytest.raises(Misconfigured, match="not a spec"):
        Spec.parse(b"\xff")


def test_two_specs_that_differ_in_anything_have_two_digests() -> None:
    one, other = make_spec([(2,)], norm=1.0), make_spec([(2,)], norm=1.0000001)
    assert one.digest() != other.digest()
    assert one.digest() == Spec.parse(one.to_bytes()).digest()


@pytest.mark.parametrize("rank", ["16", 16.0, True])
def test_no_value_is_turned_into_another_type(rank: Any) -> None:
    document = make_vectors.spec_document()
    with pytest.raises(ValidationError, match=r"adapter\.rank"):
        Spec.model_validate({**document, "adapter": {**ADAPTER, "rank": rank}})
