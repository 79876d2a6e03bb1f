"""Files and documents that others wrote or editors damaged, mutated, before what reads them."""

import gzip
import io
import json
import random
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow
import pyarrow.parquet

from aggregator.settings import AggregatorSettings
from chain.invitation import Invitation
from chain.location import FederationLocation
from commonweight.model.checkpoint import read_checkpoint
from ethereum.nonces import Nonces
from ethereum.wallet import Wallet, keystore_address, load_keystore, read_password
from node.carried import CarriedFiles
from node.settings import ParticipantSettings
from protocol.bundle import Bundle
from protocol.manifest import Manifest
from protocol.screening import check_manifest, screen_update
from protocol.sketches import SKETCH_SIZE, pack_sketch, parse_sketch
from protocol.spec import Spec
from protocol.types import Address, RoundId, UnixTime
from protocol.whereabouts import Gateway, parse_place, parse_whereabouts, write_whereabouts
from runtime.status import describe_process
from sponsor.config import Config
from storage.dial import DialRules
from storage.http import Clock, TimeLimit
from storage.layers import LayerFolder, Subject, build_manifest
from tests.fuzz.mutate import flip_bits, mutate_bytes, mutate_value, to_json
from tests.protocol.masked import Round
from tests.world import SyntheticTrainer, small_spec
from training.examples import load

ADDRESS: Final = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
_CONFIGS: Final = Path(__file__).parents[2] / "configs"
_PEER: Final = "12D3KooWGRUVh7e5SRhLwFyDXdrAPCDeJDDJYGYFqFDeTBgsJ1ZH"
_ANNOUNCED: Final = f"""/ip4/192.0.2.7/tcp/4001/p2p/{_PEER}
/dns4/ann.example/udp/4001/quic-v1/p2p/{_PEER}
https://[2001:db8::7]:8443/blocks
https://ann.example/blocks"""
_WEAK: Final = 2  # scrypt's work factor, which a mutation may raise


@dataclass(frozen=True)
class Document:
    """Good bytes, and what reads them; their values or single bits are worth mutating too."""

    good: bytes
    read: Callable[[bytes], object]
    is_json: bool = True
    is_binary: bool = False

    def play(self, random: random.Random) -> None:
        """Read the bytes with a change; raises what the reading raises."""
        if self.is_json and random.random() < 0.6:
            self.read(to_json(mutate_value(random, json.loads(self.good))))
        elif self.is_binary and random.random() < 0.6:
            self.read(flip_bits(random, self.good))
        else:
            self.read(mutate_bytes(random, self.good))


def documents(folder: Path) -> dict[str, Document]:
    """Return everything that is read from files or blocks, by name; `folder` holds the files."""
    return {**_of_the_protocol(folder), **_own_files(folder), **_data_files(folder)}


def _read_places(raw: bytes) -> None:
    """Read an announcement as roles do, and ask whether its addresses may be dialled."""
    places = parse_whereabouts(raw.decode("utf-8", "replace"))  # as chain/events.py decodes it
    assert [parse_place(line) for line in write_whereabouts(places).split("\n") if line] == [
        *places
    ]
    rules = DialRules(resolve=_resolve)
    for place in places:
        host = place.host if isinstance(place, Gateway) else place.address and place.address.host
        if host:
            rules.addresses(host, socket.AF_UNSPEC, Clock(TimeLimit(1, 1)))


def _resolve(host: str, family: socket.AddressFamily) -> list[str]:
    """Return an address as it stands, as the system's resolver does, and two for every name."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        return ["192.0.2.1", "::1"]


def _in_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)

    def read_bytes(raw: bytes) -> object:
        path.write_bytes(raw)
        return read(path)

    return read_bytes


def _of_the_protocol(folder: Path) -> dict[str, Document]:
    spec = small_spec()
    update = LayerFolder(folder / "update", "update")
    SyntheticTrainer("ann", 1).train(spec, update, RoundId(1), update, None)
    subject = Subject(31_337, ADDRESS, RoundId(1), "update")
    root = update.root(spec)
    manifest = build_manifest(update, spec, subject, root)
    layers = [update.layer_path(index).read_bytes() for index in range(len(spec.layers))]

    def read_manifest(raw: bytes) -> Manifest:
        place: dict[str, Any] = {"federation": ADDRESS, "chain_id": 31_337, "round_id": RoundId(1)}
        return check_manifest(raw, spec=spec, kind="update", root=root, **place)

    def read_update(raw: bytes) -> None:
        blocks = [raw[: len(layers[0])].ljust(len(layers[0]), b"\0"), *layers[1:]]
        screen_update(spec, root, lambda index: iter([blocks[index]]), RoundId(1))

    return {
        "spec": Document(spec.to_bytes(), Spec.parse),
        "manifest": Document(manifest.to_bytes(), read_manifest),
        "update": Document(layers[0], read_update, is_json=False),
        "whereabouts": Document(_ANNOUNCED.encode(), _read_places, is_json=False),
        **_masked(),
    }


def _masked() -> dict[str, Document]:
    """What a participant of a masked round publishes beside its update."""
    round_of_four = Round(4, 1)
    bundle = round_of_four.bundle(round_of_four.members[0])
    key = next(iter(round_of_four.box_keys(round_of_four.members[0]).values()))

    def read_bundle(raw: bytes) -> None:
        read = Bundle.parse(raw)
        assert read.to_bytes() == raw
        read.open_box(read.peers[0], key)

    return {
        "bundle": Document(bundle.to_bytes(), read_bundle, is_json=False),
        "sketch": Document(pack_sketch(range(SKETCH_SIZE)), parse_sketch, is_json=False),
    }


def _own_files(folder: Path) -> dict[str, Document]:
    keystore = folder / "key.json"
    Wallet.from_key(b"\1" * 32).save_keystore(keystore, "x", work_factor=_WEAK)
    invitation = Invitation(ADDRESS, UnixTime(1_790_000_000), bytes(65))
    location = FederationLocation(
        chain_id=31_337,
        address=ADDRESS,
        deployment_block=7,
        rpc_url="http://127.0.0.1:8545",
        ipfs_url="http://127.0.0.1:5001",
    )
    # Beside the configuration, which names files that must be there.
    shutil.copytree(_CONFIGS / "flashcards", folder / "flashcards")
    carried = CarriedFiles(folder / "carried", small_spec())
    shapes = [layer.shape for layer in small_spec().layers]
    carried.write(RoundId(1), [np.zeros(shape) for shape in shapes])
    state = folder / "state"
    participant = b'federation = "f.json"\nkeystore = "k"\ndata = "d.csv"\nmodel = "m"\nrank = 4\n'
    aggregator = b'federation = "f.json"\nkeystore = "k"\nconfirmations = 3\nmax_fee_gwei = 7.5\n'
    settings = ParticipantSettings(
        federation=folder, keystore=keystore, state=state, data=folder, model="m"
    )

    def journal(path: Path) -> None:
        Nonces().keep_in(path)

    def lines(load: Callable[[Path], Any]) -> Callable[[Path], object]:
        return lambda path: load(path).max_fee_per_gas

    return {
        "participant.toml": Document(
            participant, _in_file(folder / "p.toml", lines(ParticipantSettings.load)), is_json=False
        ),
        "aggregator.toml": Document(
            aggregator, _in_file(folder / "a.toml", lines(AggregatorSettings.load)), is_json=False
        ),
        "federation.toml": Document(
            (_CONFIGS / "tiny.toml").read_bytes(),
            _in_file(folder / "c.toml", Config.load),
            is_json=False,
        ),
        "federation.json": Document(
            location.model_dump_json().encode(),
            _in_file(folder / "f.json", FederationLocation.load),
        ),
        "invitation": Document(
            invitation.to_line().encode(),
            _in_file(folder / "i.json", lambda path: Invitation.load(str(path))),
        ),
        "keystore": Document(
            keystore.read_bytes(), _in_file(keystore, lambda path: load_keystore(path, "x"))
        ),
        "keystore's address": Document(
            keystore.read_bytes(), _in_file(folder / "k.json", keystore_address)
        ),
        "password": Document(b"secret\r\n", _in_file(folder / "pw", read_password), is_json=False),
        "journal": Document(b'{"7": [1, 2]}', _in_file(folder / "journal", journal)),
        "last line": Document(
            b'{"time": 1.5, "who": "a", "phase": "trained", "round": 1}',
            _in_file(state / "doing.json", lambda path: describe_process(settings)),
        ),
        "carried": Document(
            (folder / "carried" / "round-0001.f64").read_bytes()[:64],
            _in_file(folder / "carried" / "round-0001.f64", lambda path: carried.read(RoundId(1))),
            is_json=False,
        ),
    }


def _data_files(folder: Path) -> dict[str, Document]:
    rows = [{"question": "Why?", "answer": "So."}, {"instruction": "Do", "response": "Done"}]
    turns = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": [{"text": "So."}]},
    ]
    texts = {
        "chats.json": to_json(
            {"data": [{"messages": turns}, {"prompt": turns, "completion": turns}]}
        ),
        "rows.jsonl": b"".join(to_json(row) + b"\n" for row in rows),
        "rows.json": to_json(rows),
        "rows.csv": b'question,answer\r\n"Why,\n?",So.\r\nWho?,I\r\n',
        "wide.csv": "sep=;\r\nQuestion;Answer\r\nWhy?;So.\r\n".encode("utf-16"),
        "rows.jsonl.gz": gzip.compress(to_json(rows[0])),
        "rows.tsv": b"prompt\tcompletion\nWhy?\tSo.\n",
    }
    entries = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = to_json(entries)
    tensors = len(header).to_bytes(8, "little") + header + bytes(4)
    checkpoint = _in_file(folder / "model.safetensors", read_checkpoint)
    table = _in_file(folder / "rows.parquet", load)
    found = {
        "model.safetensors": Document(tensors, checkpoint, is_json=False, is_binary=True),
        "rows.parquet": Document(_parquet(), table, is_json=False, is_binary=True),
    }
    return found | {
        name: Document(
            text, _in_file(folder / name, load), name.endswith(".json"), name.endswith(".gz")
        )
        for name, text in texts.items()
    }


def _parquet() -> bytes:
    """Return rows with a column of each kind, in two groups: one packed, with a dictionary."""
    counts = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    now = datetime(2026, 11, 27, tzinfo=UTC)
    rows = pyarrow.table(
        {
            "question": ["Why?", "Who?", "When?"],
            "answer": ["So.", None, "Now."],
            "messages": [[{"role": "user", "content": "Why?"}], [], None],
            "day": [now.date()] * 3,
            "time": pyarrow.array([now] * 3, pyarrow.timestamp("us", "UTC")),
            "took": [timedelta(seconds=1)] * 3,
            "price": [Decimal("1.5"), Decimal("2.5"), None],
            "raw": [b"\0", b"\1", b"\2"],
            "parts": pyarrow.array([[("a", 1)]] * 3, counts),
            "share": [0.5, 1.5, None],
            "is_read": [True, False, None],
        }
    )
    file = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(file, rows.schema, compression="snappy") as writer:
        writer.write_table(rows)
        writer.write_table(rows)
    return file.getvalue()
