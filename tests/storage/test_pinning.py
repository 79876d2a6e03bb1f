"""A layer file is added once, when it is complete, and must be what the manifest says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.errors import WrongBytes
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import Digest
from storage.digests import examine
from storage.layers import LayerFolder, Pinning, build_manifest, initial_subject, pin
from storage.unixfs import compute_cid
from tests.world import small_spec


class Store:
    """Remembers what was added; in place of `ContentStore`."""

    def __init__(self) -> None:
        self.added: list[str] = []

    def add_file(self, path: Path) -> str:
        self.added.append(path.name)
        with path.open("rb") as file:
            return compute_cid(file)

    def put_block(self, data: bytes) -> Digest:
        return Manifest.parse(data).digest()


@pytest.fixture
def spec() -> Spec:
    return small_spec()


@pytest.fixture
def folder(tmp_path: Path, spec: Spec) -> LayerFolder:
    folder = LayerFolder(tmp_path)
    folder.write(spec, [np.full(layer.shape, 7, np.int32) for layer in spec.layers])
    return folder


def manifest_of(folder: LayerFolder, spec: Spec) -> Manifest:
    (found,) = examine(spec, [folder.paths(spec)])
    subject = initial_subject(1)
    manifest = build_manifest(folder, spec, subject, found.root, found.digests)
    assert manifest == build_manifest(folder, spec, subject, found.root)
    return manifest


def test_each_file_is_added_once(folder: LayerFolder, spec: Spec) -> None:
    store: Any = Store()
    manifest = manifest_of(folder, spec)
    with Pinning(store, folder) as pinning:
        pinning.begin(0)
        pinning.begin(1)
        assert pinning.finish(manifest) == manifest.digest()
    assert store.added == ["00000.layer", "00001.layer", "00002.layer"]


def test_a_file_changed_after_it_was_described_is_told(folder: LayerFolder, spec: Spec) -> None:
    store: Any = Store()
    manifest = manifest_of(folder, spec)
    path = folder.layer_path(1)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(WrongBytes, match="its manifest says"):
        pin(store, folder, manifest)
