"""Updates and models in the store: pinned once, verified on arrival, removed when not needed."""

import math
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.canonical import sha256
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.encoding import BLOCK_BYTES
from protocol.encoding import PublishedKind as Made
from protocol.errors import Misconfigured, Rejected, Unavailable, WrongBytes
from protocol.manifest import LayerEntry, Manifest
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId
from storage import layers
from storage.digests import examine
from storage.ipfs import ContentStore
from storage.layers import (
    LayerFolder,
    Pinning,
    Published,
    Subject,
    build_manifest,
    fetch_layers,
    fetch_model,
    fetch_update,
    initial_subject,
    pin,
    remove_unused,
)
from tests.storage.content import SHAPES, content, spec_of, values_of
from tests.storage.lying_proxy import LyingProxy
from tests.storage.test_ipfs import count_sent

FEDERATION = Address("0x" + "11" * 20)
# The second layer of an update takes three blocks, of a model nine.
LARGE = ((4, 24), (1100, 2000), (3, 7))


@pytest.fixture
def spec() -> Spec:
    return spec_of(*SHAPES)


def folder_of(path: Path, spec: Spec, kind: Made, seed: int = 1) -> LayerFolder:
    folder = LayerFolder(path, kind)
    folder.write(spec, values_of(spec, kind, seed))
    return folder


def manifest_of(folder: LayerFolder, spec: Spec, round_id: int = 3) -> Manifest:
    assert folder.kind != "sum"
    subject = Subject(31337, FEDERATION, RoundId(round_id), folder.kind)
    (found,) = examine(spec, folder.kind, [folder.paths(spec)])
    manifest = build_manifest(folder, spec, subject, found.root, found.digests)
    assert manifest == build_manifest(folder, spec, subject, folder.root(spec))
    return manifest


def published(spec: Spec, manifest: Manifest, round_id: int = 3) -> Published:
    subject = Subject(31337, FEDERATION, RoundId(round_id), manifest.kind)
    return Published(spec, subject, manifest.root_digest, manifest.digest())


def contents(folder: LayerFolder, spec: Spec) -> list[bytes]:
    return [path.read_bytes() for path in folder.paths(spec)]


# ----------------------------------------------------------- folders


@pytest.mark.parametrize("kind", ["update", "model"])
def test_values_come_back_as_they_were_written(tmp_path: Path, spec: Spec, kind: Made) -> None:
    folder = folder_of(tmp_path, spec, kind)
    for read, written in zip(folder.read(spec), values_of(spec, kind, 1), strict=True):
        assert read.dtype == written.dtype
        assert (read == written).all()
    assert sum(map(len, contents(folder, spec))) == spec.total_bytes(kind)


def test_values_of_the_other_kind_are_refused(tmp_path: Path, spec: Spec) -> None:
    with pytest.raises(Misconfigured, match="int8 was expected"):
        LayerFolder(tmp_path, "update").write(spec, values_of(spec, "model", 1))
    with pytest.raises(Misconfigured, match="shape"):
        LayerFolder(tmp_path, "model").write(spec, values_of(spec_of((2, 2)), "model", 1) * 3)


@pytest.mark.parametrize("kind", ["update", "model"])
def test_a_folder_knows_whether_it_holds_a_root(tmp_path: Path, spec: Spec, kind: Made) -> None:
    folder = folder_of(tmp_path, spec, kind)
    root = folder.root(spec)
    assert folder.holds(spec, root)
    assert not folder.holds(spec, Digest(bytes(32)))
    path = folder.layer_path(1)
    data = path.read_bytes()
    for other in (data[:-1], data + b"\0", data[:-1] + b"\x05"):
        path.write_bytes(other)
        assert not folder.holds(spec, root)
    path.unlink()
    assert not folder.holds(spec, root)


def test_a_manifest_is_of_the_folders_kind(tmp_path: Path, spec: Spec) -> None:
    folder = folder_of(tmp_path, spec, "update")
    with pytest.raises(Misconfigured, match="update"):
        build_manifest(folder, spec, initial_subject(1), folder.root(spec))


# ----------------------------------------------------------- pinning


def test_files_that_wait_share_a_request(
    store: ContentStore, tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = count_sent(store, monkeypatch)
    folder = folder_of(tmp_path, spec, "update")
    manifest = manifest_of(folder, spec)
    with Pinning(store, folder) as pinning:
        pinning.begin(2)
        time.sleep(0.5)  # the first is put by now
        assert pinning.finish(manifest) == manifest.digest()
    assert sent[0] == 1
    assert sum(sent) == 4  # three layers and the manifest, each once
    for entry in manifest.layers:
        assert all(map(store.has, entry.digests))


def test_a_file_changed_after_it_was_described_is_told(
    store: ContentStore, tmp_path: Path, spec: Spec
) -> None:
    folder = folder_of(tmp_path, spec, "update", seed=7)  # of which nobody else pins a manifest
    manifest = manifest_of(folder, spec)
    path = folder.layer_path(1)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(WrongBytes, match="is not what its manifest lists"):
        pin(store, folder, manifest)
    assert not store.has(manifest.digest())


def test_a_failure_while_pinning_is_raised(tmp_path: Path, spec: Spec) -> None:
    folder = folder_of(tmp_path, spec, "update")
    manifest = manifest_of(folder, spec)
    store = ContentStore("http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(Unavailable, match="no IPFS daemon answers"):
        pin(store, folder, manifest)


# ----------------------------------------------------------- fetching


@pytest.mark.parametrize("kind", ["update", "model"])
def test_what_was_pinned_is_fetched(store: ContentStore, tmp_path: Path, kind: Made) -> None:
    spec = spec_of(*LARGE)
    folder = folder_of(tmp_path / "made", spec, kind)
    manifest = manifest_of(folder, spec)
    assert [len(entry.blocks) for entry in manifest.layers] == [1, 3 if kind == "update" else 9, 1]
    assert pin(store, folder, manifest) == manifest.digest()
    copy = LayerFolder(tmp_path / "copy", kind)
    if kind == "update":
        assert fetch_update(store, published(spec, manifest), copy) == manifest
    else:
        assert fetch_model(store, published(spec, manifest, 4), copy) is copy
    assert contents(copy, spec) == contents(folder, spec)
    assert sorted(copy.path.iterdir()) == copy.paths(spec)
    assert copy.layer_path(0).stat().st_mode & 0o777 == 0o644


def test_only_what_is_missing_is_fetched(
    daemon: DevIpfsDaemon, proxy: LyingProxy, tmp_path: Path
) -> None:
    spec = spec_of(*LARGE)
    folder = folder_of(tmp_path / "made", spec, "update")
    manifest = manifest_of(folder, spec)
    pin(ContentStore(daemon.url), folder, manifest)
    copy, store = LayerFolder(tmp_path / "copy", "update"), ContentStore(proxy.url)
    shutil.copytree(folder.path, copy.path)
    fetch_layers(store, manifest, spec, copy)
    assert proxy.asked == []
    data = copy.layer_path(1).read_bytes()
    for damaged in (data[:-1], data[:-1] + b"\x05", b""):
        copy.layer_path(1).write_bytes(damaged)
        fetch_layers(store, manifest, spec, copy)
        assert proxy.asked == ["block/get"] * 3
        assert copy.holds(spec, manifest.root_digest)
        proxy.asked.clear()


class Together:
    """Blocks that come only when so many are asked for at once; `most` is how many were."""

    def __init__(self, folder: LayerFolder, spec: Spec, wanted: int) -> None:
        blocks = (block for index in range(len(spec.layers)) for block in folder.blocks(index))
        self._blocks = {sha256(block): block for block in blocks}
        self._barrier = threading.Barrier(wanted)
        self._lock = threading.Lock()
        self._asked = self.most = 0

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        with self._lock:
            self._asked += 1
            self.most = max(self.most, self._asked)
        self._barrier.wait(10)
        time.sleep(0.05)  # time for one too many
        with self._lock:
            self._asked -= 1
        return self._blocks[digest]


@pytest.mark.parametrize(("shape", "at_once"), [((16, 16), 8), ((1024, 1024), 4)])
def test_small_blocks_are_asked_for_eight_at_once_and_large_ones_four(
    tmp_path: Path, shape: tuple[int, ...], at_once: int
) -> None:
    spec = spec_of(*[shape] * 8)
    folder = folder_of(tmp_path / "mine", spec, "update")
    store = Together(folder, spec, at_once)
    fetched = LayerFolder(tmp_path / "fetched", "update")
    fetch_layers(store, manifest_of(folder, spec), spec, fetched)
    assert contents(fetched, spec) == contents(folder, spec)
    assert store.most == at_once


def test_a_folder_that_cannot_be_written_is_the_operators_to_fix(
    store: ContentStore, tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "made", spec, "update")
    manifest = manifest_of(folder, spec)
    pin(store, folder, manifest)

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Misconfigured, match=r"cannot write .*\.layer: No space left on device"):
        fetch_update(store, published(spec, manifest), LayerFolder(tmp_path / "copy", "update"))
    assert list((tmp_path / "copy").iterdir()) == []


class Bent:
    """An update in the store whose manifest was changed before it was published."""

    def __init__(self, store: ContentStore, folder: Path, **changes: Any) -> None:
        self.store, self.spec = store, spec_of(*LARGE)
        self.folder = folder_of(folder / "made", self.spec, "update")
        honest = manifest_of(self.folder, self.spec)
        pin(store, self.folder, honest)
        self.copy = LayerFolder(folder / "copy", "update")
        self.manifest = honest.model_copy(update=changes)

    def list_in(self, layer: int, *blocks: Digest) -> None:
        entries = list(self.manifest.layers)
        entry = entries[layer]
        entries[layer] = LayerEntry(
            name=entry.name, shape=entry.shape, blocks=tuple(each.hex() for each in blocks)
        )
        self.manifest = self.manifest.model_copy(update={"layers": tuple(entries)})

    def rejected(self, store: ContentStore | None = None, **options: Any) -> Rejected:
        """Publish the manifest and fetch the update; return why it was rejected."""
        self.store.put_block(self.manifest.to_bytes())
        update = published(self.spec, self.manifest)
        with pytest.raises(Rejected) as caught:
            fetch_update(store or self.store, update, self.copy, **options)
        assert not list(self.copy.path.glob(".*"))
        return caught.value


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_PAUSE_SECONDS", 0.01)


def test_another_number_of_blocks_fails_check_5(store: ContentStore, tmp_path: Path) -> None:
    for change in (lambda blocks: blocks[:-1], lambda blocks: (*blocks, blocks[0])):
        bent = Bent(store, tmp_path)
        bent.list_in(1, *change(bent.manifest.layers[1].digests))
        assert bent.rejected().check == Check.DIGESTS
        assert not bent.copy.path.exists()  # nothing was fetched


@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1])
def test_a_block_that_is_too_short_fails_check_5(
    store: ContentStore, tmp_path: Path, size: int
) -> None:
    bent = Bent(store, tmp_path)
    others = bent.manifest.layers[1].digests[1:]
    bent.list_in(1, store.put_block(content(size)), *others)
    error = bent.rejected()
    assert error.check == Check.DIGESTS
    assert f"{size:,} bytes, 1,048,576 were expected" in str(error)


def test_a_block_that_is_too_long_fails_check_5(daemon: DevIpfsDaemon, tmp_path: Path) -> None:
    bent = Bent(ContentStore(daemon.url), tmp_path)
    bent.list_in(0, daemon.repo.put(content(2 << 20)))
    error = bent.rejected()
    assert error.check == Check.DIGESTS
    assert "2,097,152 bytes, 256 were expected" in str(error)


def test_a_block_that_no_daemon_passes_on_fails_check_1(
    daemon: DevIpfsDaemon, tmp_path: Path, quick: None
) -> None:
    bent = Bent(ContentStore(daemon.url), tmp_path)
    bent.list_in(0, daemon.repo.put(content((2 << 20) + 1)))
    error = bent.rejected()
    assert error.check == Check.REACHABLE
    assert "more than 2097152 bytes" in str(error)


def test_a_missing_block_fails_check_1(store: ContentStore, tmp_path: Path, quick: None) -> None:
    bent = Bent(ContentStore(store.api_url, timeout_s=0.5), tmp_path)
    bent.list_in(2, sha256(b"nobody has it"))
    assert bent.rejected().check == Check.REACHABLE
    # What did arrive is kept for the next attempt.
    assert bent.copy.layer_path(0).exists()


@pytest.mark.parametrize("lie", [LyingProxy.flip, LyingProxy.endless, LyingProxy.drip])
def test_wrong_or_slow_bytes_fail_check_1_after_several_attempts(
    daemon: DevIpfsDaemon, proxy: LyingProxy, tmp_path: Path, quick: None, lie: Any
) -> None:
    bent = Bent(ContentStore(daemon.url), tmp_path)
    cid = raw_cid(bent.manifest.layers[0].digests[0])
    lie(proxy, cid)
    store = ContentStore(proxy.url, timeout_s=0.3, slowest_bytes_per_s=10_000_000)
    assert bent.rejected(store).check == Check.REACHABLE
    assert len(proxy.asked) >= 3 + 1
    proxy.be_honest()
    fetch_update(store, published(bent.spec, bent.manifest), bent.copy)
    assert bent.copy.holds(bent.spec, bent.manifest.root_digest)


def test_an_update_must_come_by_its_deadline(
    daemon: DevIpfsDaemon, proxy: LyingProxy, tmp_path: Path
) -> None:
    bent = Bent(ContentStore(daemon.url), tmp_path)
    for digest in bent.manifest.layers[1].digests:
        proxy.drip(raw_cid(digest))
    began = time.monotonic()
    error = bent.rejected(ContentStore(proxy.url), deadline=began + 0.5)
    assert error.check == Check.REACHABLE
    assert time.monotonic() - began < 2


def test_the_first_fault_ends_the_fetching(
    daemon: DevIpfsDaemon, proxy: LyingProxy, tmp_path: Path
) -> None:
    spec = spec_of(*[(16, 16)] * 200)
    folder = folder_of(tmp_path / "made", spec, "update")
    manifest = manifest_of(folder, spec)
    store = ContentStore(daemon.url)
    pin(store, folder, manifest)
    long = store.put_block(content(1000))
    entry = manifest.layers[0].model_copy(update={"blocks": (long.hex(),)})
    manifest = manifest.model_copy(update={"layers": (entry, *manifest.layers[1:])})
    store.put_block(manifest.to_bytes())
    with pytest.raises(Rejected) as caught:
        fetch_update(
            ContentStore(proxy.url),
            published(spec, manifest),
            LayerFolder(tmp_path / "copy", "update"),
        )
    assert caught.value.check == Check.DIGESTS
    assert len(proxy.asked) < 50


# ----------------------------------------------------------- models


def test_a_models_manifest_may_be_of_an_earlier_round(store: ContentStore, tmp_path: Path) -> None:
    spec = spec_of(*SHAPES)
    folder = folder_of(tmp_path / "made", spec, "model")
    manifest = manifest_of(folder, spec, round_id=3)
    pin(store, folder, manifest)
    copy = LayerFolder(tmp_path / "copy", "model")
    for before in (4, 9):
        fetch_model(store, published(spec, manifest, before), copy)
    for before in (1, 3):
        with pytest.raises(Rejected, match="round 3, not before") as caught:
            fetch_model(store, published(spec, manifest, before), copy)
        assert caught.value.check == Check.ROUND_AND_SPEC


def test_a_model_that_cannot_be_had_through_its_manifest_is_told(
    store: ContentStore, tmp_path: Path
) -> None:
    spec = spec_of(*SHAPES)
    folder = folder_of(tmp_path / "made", spec, "model")
    honest = manifest_of(folder, spec)
    pin(store, folder, honest)
    copy = LayerFolder(tmp_path / "copy", "model")
    store = ContentStore(store.api_url, timeout_s=0.5)

    def fetch(raw: bytes, root: Digest = honest.root_digest) -> None:
        about = published(spec, honest, 4)
        manifest = Published(spec, about.subject, root, store.put_block(raw))
        fetch_model(store, manifest, copy)

    # 1. Garbage, or the manifest of something else.
    for raw in (b"", b"garbage", b"{}", honest.to_bytes()[:-1]):
        with pytest.raises(Rejected) as caught:
            fetch(raw)
        assert caught.value.check == Check.MANIFEST
    update = honest.model_copy(update={"kind": "update"})
    with pytest.raises(Rejected):
        fetch(update.to_bytes())
    # 2. A manifest that nobody has, or that lists a block that nobody has.
    about = published(spec, honest, 4)
    with pytest.raises(Unavailable):
        fetch_model(store, Published(spec, about.subject, about.root, Digest(bytes(32))), copy)
    lost = honest.layers[0].model_copy(update={"blocks": ("00" * 32,)})
    with pytest.raises(Unavailable):
        fetch(honest.model_copy(update={"layers": (lost, *honest.layers[1:])}).to_bytes())
    # 3. Blocks of another size, or another model's.
    short = honest.layers[0].model_copy(update={"blocks": (store.put_block(b"short").hex(),)})
    with pytest.raises(Rejected) as caught:
        fetch(honest.model_copy(update={"layers": (short, *honest.layers[1:])}).to_bytes())
    assert caught.value.check == Check.DIGESTS
    other = folder_of(tmp_path / "other", spec, "model", seed=2)
    lying = manifest_of(other, spec).model_copy(update={"root": honest.root})
    pin(store, other, lying)
    with pytest.raises(Rejected, match="the layers hash to") as caught:
        fetch(lying.to_bytes())
    assert caught.value.check == Check.ROOT
    assert not copy.holds(spec, honest.root_digest)
    # 4. The true one, over what the others left.
    fetch(honest.to_bytes())
    assert copy.holds(spec, honest.root_digest)


# ----------------------------------------------------------- removing


def test_what_was_rejected_goes_and_what_is_shared_stays(
    store: ContentStore, tmp_path: Path, spec: Spec
) -> None:
    spec_block, held_out = spec.to_bytes(), b"held out"
    spec = spec.model_copy(update={"evaluation_digest": sha256(held_out).hex()})
    kept_too = store.put_blocks([spec_block, spec.to_bytes(), held_out])
    kept = folder_of(tmp_path / "kept", spec, "update", seed=1)
    rejected = folder_of(tmp_path / "rejected", spec, "update", seed=2)
    shutil.copy(kept.layer_path(0), rejected.layer_path(0))
    kept_manifest, rejected_manifest = manifest_of(kept, spec), manifest_of(rejected, spec)
    # A stranger lists whatever it likes: the spec, the held-out set and a kept manifest.
    (entry, *others) = rejected_manifest.layers
    everything = (*entry.blocks, *(digest.hex() for digest in kept_too[1:]))
    greedy = entry.model_copy(update={"blocks": (*everything, kept_manifest.digest().hex())})
    greedy_manifest = rejected_manifest.model_copy(update={"layers": (greedy, *others)})
    for folder, manifest in ((kept, kept_manifest), (rejected, rejected_manifest)):
        pin(store, folder, manifest)
    store.put_block(greedy_manifest.to_bytes())
    remove_unused(store, [rejected_manifest, greedy_manifest], [kept_manifest], spec)
    for manifest in (rejected_manifest, greedy_manifest):
        assert not store.has(manifest.digest())
    for entry in rejected_manifest.layers[1:]:
        assert not any(map(store.has, entry.digests))
    assert all(map(store.has, kept_too))
    copy = LayerFolder(tmp_path / "copy", "update")
    assert fetch_update(store, published(spec, kept_manifest), copy) == kept_manifest
    remove_unused(store, [rejected_manifest], [kept_manifest], spec)  # nothing is left to do


def test_a_copy_of_a_kept_update_takes_nothing_with_it(
    store: ContentStore, tmp_path: Path, spec: Spec
) -> None:
    folder = folder_of(tmp_path / "made", spec, "update")
    manifest = manifest_of(folder, spec)
    pin(store, folder, manifest)
    remove_unused(store, [manifest], [manifest], spec)
    copy = LayerFolder(tmp_path / "copy", "update")
    assert fetch_update(store, published(spec, manifest), copy) == manifest
