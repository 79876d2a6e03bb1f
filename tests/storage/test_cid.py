import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.cid import DAG_PB, RAW
from protocol.errors import Misconfigured
from storage.cid import Cid, to_base58

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "cids.json").read_text())
DIGESTS = st.binary(min_size=32, max_size=32)
CIDS = st.one_of(
    st.builds(Cid, st.just(0), st.just(DAG_PB), DIGESTS),
    st.builds(Cid, st.just(1), st.sampled_from([RAW, DAG_PB]), DIGESTS),
)


@pytest.mark.parametrize("spellings", [case["same"] for case in VECTORS["spellings"]])
def test_spellings_of_one_block_are_equal(spellings: list[str]) -> None:
    assert len({Cid.parse(text) for text in spellings}) == 1


@given(CIDS)
def test_text_and_bytes_come_back(cid: Cid) -> None:
    assert Cid.parse(str(cid)) == cid
    assert Cid.from_bytes(cid.to_bytes()) == cid
    if cid.version == 1:
        assert Cid.parse("z" + to_base58(cid.to_bytes())) == cid
        assert Cid.parse("f" + cid.to_bytes().hex()) == cid


@given(st.one_of(st.text(max_size=80), st.text("bzfQm123abc=", min_size=40, max_size=130)))
def test_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"^invalid cid: .*$"):
        Cid.parse(text)


@pytest.mark.parametrize(
    "packed",
    [
        b"\x01\x71\x12\x20" + bytes(32),  # dag-cbor
        b"\x01\x55\x13\x20" + bytes(32),  # sha2-512
        b"\x01\x55\x12\x20" + bytes(31),
        b"\x02\x55\x12\x20" + bytes(32),
        b"",
    ],
)
def test_other_kinds_of_identifier_are_refused(packed: bytes) -> None:
    with pytest.raises(Misconfigured):
        Cid.from_bytes(packed)
