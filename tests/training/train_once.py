"""What test_train.py runs in a process of its own: train the tiny model on two threads."""

import hashlib
import json
import sys
from pathlib import Path

from tests.training.conftest import EXAMPLES, lora, quantization, settings
from training.adapter import read_adapter
from training.model import attach_lora, load_base, load_tokenizer, set_threads
from training.train import train_from

if __name__ == "__main__":
    set_threads(2)
    folder = Path(sys.argv[1])
    model = attach_lora(load_base(folder, quantization("nf4")), lora(dropout=0.1), seed=1)
    arrays, report = train_from(
        model, load_tokenizer(folder), read_adapter(model), EXAMPLES, settings()
    )
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    print(json.dumps([digest, report.mean_loss]))
