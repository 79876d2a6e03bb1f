"""One round of training on the public rows, before anybody puts money into a federation.

    trial = run_trial(spec, model, held_out, source, cache, rounds=100)

It proves that the federation can be trained, and gives two terms that depend on how far training
moves the model: the grid of the updates and the least norm of one (docs/protocol.md §2 and §6,
docs/decisions/0014-grid-and-least-norm.md).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.differences import choose_grid
from protocol.errors import CommonweightError, Misconfigured
from protocol.spec import Spec
from runtime.service import one_line
from storage.layers import LayerFolder
from training.examples import Example, read_examples
from training.seeded import shuffled_order
from training.update import Update, encode_update, exact_difference

# An honest update of any round is longer than a tenth of what the trial says of that round.
_PART_OF_TRIAL: Final = 10
# Enough for a loss to be told from noise; a large public set would cost hours on a CPU.
_ROWS: Final = 64


@dataclass(frozen=True)
class Trial:
    """What one round on the public rows gave, in the terms of the spec and as figures.

    `grid_bits` is the grid of the first round, `min_norm` the least length of an update in steps.
    Losses are means over the answer tokens of the rows that were trained on, in nats:
    `loss_after` is that of the model that the encoded update makes. `rms` is the root mean square
    of the differences and `norm` the length of the update, both in the model's units;
    `clipped_share` and `relative_error` are those of the encoded update (`training.update.Update`).
    `evaluation_seconds` is the time that the loss on the whole public set takes here.
    """

    grid_bits: int
    min_norm: int
    loss_before: float
    loss_after: float
    rms: float
    norm: float
    clipped_share: float
    relative_error: float
    evaluation_seconds: float


def run_trial(
    spec: Spec,
    model: LayerFolder,
    held_out: Path,
    source: str,
    cache: Path,
    *,
    rounds: int,
    grid_bits: int | None = None,
) -> Trial:
    """Train one round of `spec` from `model` on rows of the file `held_out` and measure it.

    `source` is where this machine finds the base model, `rounds` how many the federation has. The
    grid is `grid_bits` if given, else chosen from the differences; that of `spec` and its
    `min_norm` have no effect. Raises Misconfigured when no grid fits or the loss does not fall.
    """
    # Here, because torch is an optional extra: looking at a federation needs this room too.
    from training.session import close_session, open_session

    public = read_examples(held_out)
    rows = _draw(public, spec.training.seed)
    try:
        session = open_session(spec, source, cache)
        # 1. One round as a participant trains it.
        before = model.read(spec)
        loss_before = session.evaluate(before, rows).loss
        trained, _ = session.train_arrays(session.decode(before), rows, spec.training.seed)
        after = [trained[layer.name] for layer in spec.layers]
        # 2. The grid that its differences fit.
        pairs = zip(before, after, strict=True)
        differences = [exact_difference(old, new) for old, new in pairs]
        grid = choose_grid(differences) if grid_bits is None else grid_bits
        update = encode_update(before, after, None, grid)
        # 3. Whether what others will get of it lowers the loss.
        began = time.monotonic()
        loss_after = session.evaluate(update.applied_to(before), rows).loss
        seconds = (time.monotonic() - began) * len(public) / len(rows)
    except (CommonweightError, OSError):
        raise
    except Exception as error:  # of whatever architecture: nobody else could train it either
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise Misconfigured(f"training this model failed with {reason}") from error
    finally:
        close_session()  # roles that run in this process load their own
    if not loss_after < loss_before:
        raise Misconfigured(
            f"one round of training does not lower the loss on the public rows: {loss_before:.4f}"
            f" before, {loss_after:.4f} after; change the learning rate or the steps"
        )
    return Trial(
        grid_bits=grid,
        min_norm=_least_norm(spec, update, rounds),
        loss_before=loss_before,
        loss_after=loss_after,
        rms=_root_mean_square(differences),
        norm=update.norm() / 2**grid,
        clipped_share=update.clipped_share,
        relative_error=update.relative_error,
        evaluation_seconds=seconds,
    )


def _draw(examples: Sequence[Example], seed: int) -> list[Example]:
    order = shuffled_order(f"trial/{seed}", len(examples))
    return [examples[index] for index in order[:_ROWS]]


def _least_norm(spec: Spec, update: Update, rounds: int) -> int:
    """Return the default of `min_norm`: a tenth of the shortest update to expect, at least 1."""
    # AdamW moves a value by about the learning rate a step, so an update is as long as the rate is
    # high, and a later round may count in finer steps. The first round's tenth alone would reject
    # every honest update of a federation whose rate falls to a fiftieth.
    training = spec.training
    encoding = spec.encoding.model_copy(update={"grid_bits": update.grid})
    scales = [
        training.learning_rate_in(number) * 2.0 ** encoding.grid_in(number)
        for number in range(1, rounds + 1)
    ]
    return max(1, int(update.norm() * min(scales) / scales[0] / _PART_OF_TRIAL))


def _root_mean_square(differences: Sequence[NDArray[np.float64]]) -> float:
    total = sum(float(np.sum(np.square(layer))) for layer in differences)
    return sqrt(total / sum(layer.size for layer in differences))
