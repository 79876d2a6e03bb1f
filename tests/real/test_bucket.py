"""A bucket on a real S3 server: written with credentials, read by everybody without."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from protocol.canonical import sha256 as digest_of
from protocol.errors import Unavailable
from protocol.types import Digest
from storage.bucket import BucketStore
from storage.dial import DialRules
from storage.gateway import GatewayStore, Missing
from tests.real.s3 import BUCKET, S3, running_s3
from tests.storage.content import content


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3]:
    with running_s3(tmp_path) as s3:
        yield s3


def test_what_is_put_is_read_by_everybody(s3: S3) -> None:
    store = BucketStore(f"s3://{BUCKET}/ann", allow_http=True)
    gateway = GatewayStore(s3.gateway("ann"), DialRules(allow_private=True))
    with pytest.raises(Unavailable):
        gateway.probe()  # nothing was put yet
    blocks = [content(1 << 20), *(b"%d" % number for number in range(20))]
    digests = store.put_blocks(blocks)
    gateway.probe()
    for digest, block in zip(digests, blocks, strict=True):
        assert store.has(digest)
        assert gateway.get_block(digest, len(block)) == store.get_block(digest) == block
    store.remove_blocks(digests[1:])
    store.remove_blocks([*digests[1:], Digest(bytes(32))])
    assert [store.has(digest) for digest in digests[:3]] == [True, False, False]
    with pytest.raises(Missing):
        gateway.get_block(digests[1])


def test_a_bucket_that_refuses_or_is_down_is_one_line(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = BucketStore(f"s3://{BUCKET}/ann", allow_http=True).put_block(b"one")
    with pytest.raises(Unavailable) as caught:
        BucketStore("s3://nowhere/ann", allow_http=True).put_block(b"one")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    store = BucketStore(f"s3://{BUCKET}/ann", allow_http=True)
    for action in (partial(store.put_block, b"two"), partial(store.get_block, digest_of(b"two"))):
        with pytest.raises(Unavailable) as caught:
            action()
        assert "\n" not in str(caught.value)
        assert "another secret" not in str(caught.value)
    s3.kill()
    with pytest.raises(Unavailable, match=f"s3://{BUCKET}/ann"):
        store.get_block(digest)
