"""Suppression of the libraries' progress bars and warnings about one another."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run a block without progress bars and without the libraries' warnings about one another."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    # It warns at every 8-bit layer and step that inputs are cast to float16.
    int8 = logging.getLogger("bitsandbytes.autograd._functions")
    level = int8.level
    transformers.utils.logging.disable_progress_bar()
    int8.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # GPT-2's layers have their weights the other way round, and peft sees that by itself.
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
            yield
    finally:
        int8.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()


@contextlib.contextmanager
def without_load_report() -> Iterator[None]:
    """Run a block without transformers' report on loading."""
    # A new classifier is meant to be missing from the encoder's file; the report warns about it.
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(level)
