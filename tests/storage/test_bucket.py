"""A folder as a store, which others read through a plain web server; the same code puts to S3."""

import builtins
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from protocol.canonical import sha256 as digest_of
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Rejected, Unavailable, WrongBytes
from protocol.types import Digest
from protocol.whereabouts import Gateway
from storage.blocks import MAX_BLOCK_BYTES, Store
from storage.bucket import BucketStore
from storage.dial import DialRules
from storage.gateway import GatewayStore, Missing
from storage.layers import LayerFolder, Subject, build_manifest, fetch_layers, pin, remove_unused
from tests.storage.content import SHAPES, content, spec_of, values_of


class _Silent(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[Gateway]:
    """Serve the files of `folder` as any web server does; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield Gateway("http", "127.0.0.1", server.server_address[1], "/a")
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> BucketStore:
    return BucketStore(str(tmp_path / "www" / "a"))


@pytest.fixture
def gateway(tmp_path: Path, store: BucketStore) -> Iterator[GatewayStore]:
    with web_server(tmp_path / "www") as address:
        yield GatewayStore(address, DialRules(allow_private=True), timeout_s=5)


def test_blocks_come_back_here_and_by_the_web_server(
    store: BucketStore, gateway: GatewayStore
) -> None:
    blocks = [b"", content(MAX_BLOCK_BYTES), *(b"%d" % number for number in range(40))]
    digests = store.put_blocks(iter(blocks))
    assert digests == [digest_of(block) for block in blocks]
    gateway.probe()
    for digest, block in zip(digests, blocks, strict=True):
        assert store.has(digest)
        for reader in (store, gateway):
            assert reader.get_block(digest) == reader.get_block(digest, len(block)) == block


def test_what_is_not_there(store: BucketStore, gateway: GatewayStore) -> None:
    nowhere = Digest(bytes(32))
    assert not store.has(nowhere)
    with pytest.raises(Unavailable, match=f"does not have {raw_cid(nowhere)}"):
        store.get_block(nowhere)
    with pytest.raises(Missing):
        gateway.get_block(nowhere)
    store.remove_blocks([nowhere, nowhere])


def test_what_was_changed_on_disk_is_not_returned(store: BucketStore, tmp_path: Path) -> None:
    digest = store.put_block(b"one")
    (tmp_path / "www" / "a" / "ipfs" / raw_cid(digest)).write_bytes(b"two")
    with pytest.raises(WrongBytes):
        store.get_block(digest)
    with pytest.raises(Rejected) as caught:
        store.get_block(store.put_block(b"three"), 4)
    assert caught.value.check == Check.DIGESTS


def test_larger_blocks_are_refused(store: BucketStore) -> None:
    with pytest.raises(Misconfigured, match="at most 1048576"):
        store.put_block(bytes(MAX_BLOCK_BYTES + 1))


def test_an_update_goes_when_no_manifest_names_it(
    store: BucketStore, gateway: GatewayStore, tmp_path: Path
) -> None:
    """The same functions as with an IPFS daemon."""
    spec, about = spec_of(*SHAPES), Subject(1, "0x" + "0" * 40, 3, "update")  # type: ignore[arg-type]
    manifests = []
    for seed in (1, 2):
        folder = LayerFolder(tmp_path / str(seed), "update")
        folder.write(spec, values_of(spec, "update", seed))
        manifests.append(build_manifest(folder, spec, about, folder.root(spec)))
        kept: Store = store
        assert pin(kept, folder, manifests[-1]) == manifests[-1].digest()
    first, second = manifests
    fetched = LayerFolder(tmp_path / "fetched", "update")
    fetch_layers(gateway, first, spec, fetched)
    assert fetched.root(spec) == first.root_digest
    remove_unused(store, [first], [second], spec, also_pinned=False)
    assert store.has(first.digest())  # what was put stays until it is not needed any more
    remove_unused(store, [first], [second], spec)
    assert not store.has(first.digest())
    fetch_layers(gateway, second, spec, LayerFolder(tmp_path / "second", "update"))


@pytest.mark.parametrize("address", ["", "relative/folder", "ftp://x/y", "s3://", "http://x/y"])
def test_what_is_no_bucket(address: str) -> None:
    with pytest.raises(Misconfigured, match="bucket") as caught:
        BucketStore(address)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="bucket"):
        BucketStore(str(tmp_path / "file" / "below"))
    store = BucketStore(str(tmp_path / "folder"))
    (tmp_path / "folder" / "ipfs").write_text("in the way")
    with pytest.raises(Unavailable) as caught:
        store.put_block(b"one")
    assert str(tmp_path / "folder") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bucket_that_is_down_says_so_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDAKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = BucketStore("s3://bucket/prefix", timeout_s=2, allow_http=True)
    with pytest.raises(Unavailable, match="s3://bucket/prefix") as caught:
        store.put_block(b"one")
    said = str(caught.value)
    assert "\n" not in said
    assert "AKID" not in said
    assert "secret" not in said


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("obstore"):
            raise ModuleNotFoundError(name=name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misconfigured, match=r"pip install 'commonweight\[bucket\]'"):
        BucketStore("s3://bucket")
