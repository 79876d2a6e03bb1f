"""Base models, adapters, training and evaluation: the only package that imports torch."""

import logging


def _is_not_about_packed_weights(record: logging.LogRecord) -> bool:
    """Tell whether a record of bitsandbytes is about anything but kernels for packed weights.

    On CPUs with AVX512-BF16 it warns on import that the package `kernels`, or the model hub that
    this package downloads from, is missing. The kernel multiplies weights that were repacked for
    inference, which `training.model.disable_weight_repacking` rules out: it would never run here.
    """
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


# Here, because this runs before anything of ours imports bitsandbytes, by itself or through peft.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_not_about_packed_weights)
