"""`commonweight` with one part replaced: a participant moves the model's values without training.

    python -m tests.real.synthetic participant run --config participant.toml

A round of a real step of training takes most of its time there, and none of what can go wrong
between daemons happens in it.
"""

from typing import Any

import node.follower
from commonweight.cli import main
from tests.world import SyntheticTrainer

_EXAMPLES = 20


def open_trainer(settings: Any, *_: object) -> SyntheticTrainer:
    return SyntheticTrainer(settings.name, _EXAMPLES)


if __name__ == "__main__":
    ledger: Any = node.follower
    ledger.open_trainer = open_trainer
    main(prog_name="commonweight")
