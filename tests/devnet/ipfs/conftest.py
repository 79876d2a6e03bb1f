"""The daemon and the store of tests/storage."""

from tests.storage.conftest import daemon, other_ipfs, proxy, store

__all__ = ["daemon", "other_ipfs", "proxy", "store"]
