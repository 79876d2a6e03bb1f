"""What fits where another federation ended, and what does not."""

from typing import Any

import pytest

from protocol.errors import Misconfigured
from protocol.spec import Spec
from sponsor.continued import check_continues
from tests.world import small_spec


def changed(part: str, **values: Any) -> Spec:
    """Return the small world's spec with another value in one part."""
    spec = small_spec()
    return spec.model_copy(update={part: getattr(spec, part).model_copy(update=values)})


def test_terms_and_training_may_change() -> None:
    check_continues(changed("training", learning_rate=0.5, seed=9), small_spec())
    check_continues(changed("base_model", name="the same bytes elsewhere"), small_spec())


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (changed("base_model", weights_digest="ab" * 32), "base model"),
        (changed("base_model", tokenizer_digest="ab" * 32), "base model"),
        (changed("quantization", kind="int8"), "quantization"),
        (changed("adapter", alpha=7), "adapter"),
        (small_spec().model_copy(update={"layers": small_spec().layers[1:]}), "layers"),
    ],
)
def test_what_the_model_was_not_trained_for_is_refused(spec: Spec, what: str) -> None:
    with pytest.raises(Misconfigured, match=f"to continue has another {what}: its model does not"):
        check_continues(spec, small_spec())


def test_frozen_matrices_need_the_seed_that_they_were_drawn_from() -> None:
    ffa = changed("adapter", mode="ffa")
    other = ffa.model_copy(update={"training": ffa.training.model_copy(update={"seed": 9})})
    check_continues(ffa, ffa)
    with pytest.raises(Misconfigured, match=f"founded with seed {ffa.training.seed}, .*: give"):
        check_continues(other, ffa)
