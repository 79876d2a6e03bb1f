"""The names that other programs may import, as docs/python.md describes them.

    from commonweight.api import Audit, ContentStore, FederationLocation, connect_federation

Everything else of Commonweight may move or change its name between versions.
"""

# Not in commonweight/__init__.py: the program imports that, and would load all of this to print its
# help.
from auditor.check_result import CheckResult
from auditor.replay import Audit
from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from commonweight.model.adapters import FederatedAdapter, fetch_adapter, fetch_global_model
from commonweight.model.average import average_checkpoints
from ethereum.wallet import Wallet, load_keystore
from node.array_trainer import ArrayTrainer, TrainedArrays
from node.participant import Participant, TrainedUpdate, Trainer
from protocol.encoding import decode_values
from protocol.errors import CommonweightError, Misconfigured, Rejected, Unavailable
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import RoundId
from storage.ipfs import ContentStore
from storage.layers import LayerFolder
from training.update import Update, encode_update

__all__ = [
    "ArrayTrainer",
    "Audit",
    "CheckResult",
    "CommonweightError",
    "ContentStore",
    "FederatedAdapter",
    "Federation",
    "FederationLocation",
    "LayerFolder",
    "Manifest",
    "Misconfigured",
    "Participant",
    "Rejected",
    "RoundId",
    "Spec",
    "TrainedArrays",
    "TrainedUpdate",
    "Trainer",
    "Unavailable",
    "Update",
    "Wallet",
    "average_checkpoints",
    "connect_federation",
    "decode_values",
    "encode_update",
    "fetch_adapter",
    "fetch_global_model",
    "load_keystore",
]
