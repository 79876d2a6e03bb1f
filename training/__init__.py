"""Base models, adapters, training and evaluation: the only package that imports torch."""

import logging

# On CPUs with AVX512-BF16 bitsandbytes warns on import that the package `kernels`, or the model hub
# that this package downloads from, is missing. The kernel multiplies weights repacked for
# inference, which `training.model.disable_weight_repacking` rules out: it would never run here.
# Added here, since this runs before any of our modules imports bitsandbytes, directly or by peft.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")
)
