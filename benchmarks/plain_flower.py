"""The demo's training under Flower's own FedAvg: same model, data, order and evaluation.

Adapters travel as float32 in Flower's messages, and Flower averages them. The only thing missing is
what this project adds. Its settings are a JSON file: see `Settings`.
"""

import json
import time
from functools import lru_cache
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from pydantic import BaseModel
from safetensors.numpy import load_file

from node.trainer import LocalTrainer
from protocol.encoding import encode_values
from protocol.spec import Spec
from protocol.types import RoundId
from training.adapter import Arrays
from training.examples import read_examples
from training.session import Session, open_session

server = ServerApp()
client = ClientApp()


class Settings(BaseModel):
    """What both sides must know; `times` is where the server writes when each round ended."""

    spec: Path
    source: str
    cache: Path
    rounds: int
    data: list[Path]
    held_out: Path
    initial: Path
    times: Path


@server.main()
def run(grid: Grid, context: Context) -> None:
    """Play the rounds; write when each ended, its held-out loss, and a client's mean seconds."""
    settings = _settings(context)
    initial = load_file(settings.initial)
    ends: list[float] = []

    def on_round(number: int, arrays: ArrayRecord) -> None:
        ends.append(time.time())

    # The mean held-out loss is over answer tokens, as ours is.
    strategy = FedAvg(min_available_nodes=len(settings.data))
    result = strategy.start(
        grid,
        ArrayRecord({name: Array(each) for name, each in initial.items()}),
        num_rounds=settings.rounds,
        evaluate_fn=on_round,
    )
    evaluated = result.evaluate_metrics_clientapp
    losses = {number: float(found["loss"]) for number, found in evaluated.items()}
    trained = result.train_metrics_clientapp
    train = {number: float(found["seconds"]) for number, found in trained.items()}
    settings.times.write_text(json.dumps({"ends": ends, "losses": losses, "train": train}))


@client.train()
def train(message: Message, context: Context) -> Message:
    """Train on this participant's data from the arrays of the message."""
    settings = _settings(context)
    data = settings.data[int(context.node_config["partition-id"])]
    spec, session = _session(_path(context))
    number = RoundId(int(message.content.config_records["config"]["server-round"]))
    seed = LocalTrainer(data, settings.source, settings.cache).round_seed(spec, number)
    examples = read_examples(data)
    started = time.perf_counter()
    trained, report = session.train_arrays(_arrays(message), examples, seed, round_id=number)
    seconds = time.perf_counter() - started
    metrics = {"num-examples": report.examples, "loss": report.mean_loss, "seconds": seconds}
    content = {
        "arrays": ArrayRecord({name: Array(each) for name, each in trained.items()}),
        "metrics": MetricRecord(metrics),
    }
    return Message(RecordDict(content), reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the loss on this participant's share of the held-out set."""
    settings = _settings(context)
    part, parts = int(context.node_config["partition-id"]), len(settings.data)
    spec, session = _session(_path(context))
    arrays = _arrays(message)
    layers = [encode_values(arrays[layer.name]) for layer in spec.layers]
    found = session.evaluate(layers, read_examples(settings.held_out)[part::parts])
    metrics = MetricRecord({"num-examples": found.tokens, "loss": found.loss})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _path(context: Context) -> Path:
    return Path(str(context.run_config["settings"]))


def _settings(context: Context) -> Settings:
    return Settings.model_validate_json(_path(context).read_text())


@lru_cache(maxsize=1)
def _session(path: Path) -> tuple[Spec, Session]:
    settings = Settings.model_validate_json(path.read_text())
    spec = Spec.parse(settings.spec.read_bytes())
    return spec, open_session(spec, settings.source, settings.cache)


def _arrays(message: Message) -> Arrays:
    return {name: each.numpy() for name, each in message.content.array_records["arrays"].items()}
