"""Base models, quantised or not, with a LoRA adapter attached.

QLoRA (arXiv:2305.14314): the base is frozen in 4 bits, only the adapter trains. FFA-LoRA
(arXiv:2403.12313): A is frozen too, so that averaging B averages the product BA exactly.

Use: `model = load_base(folder, spec.quantization)`, `tokenizer = load_tokenizer(folder)`,
`model = attach_lora(model, spec.adapter, seed=spec.training.seed)`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import bitsandbytes
import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from protocol.errors import Misconfigured
from protocol.spec import Adapter, Quantization
from training.adapter import reset_adapter
from training.quiet import quiet, without_load_report
from training.templates import Template

# What a folder has, and no program that came with it: without the second, transformers asks on the
# terminal whether to run one.
_OFFLINE: Final = {"local_files_only": True, "trust_remote_code": False}
ALL_LINEAR: Final = ("all-linear",)
"""The targets of an adapter that stand for every linear module but the output layer, as in peft."""


def load_base(
    folder: Path,
    quantization: Quantization,
    *,
    gradient_checkpointing: bool = False,
) -> PreTrainedModel:
    """Return the frozen base model of a local folder, on the GPU if there is one.

    `gradient_checkpointing` saves the memory of the activations for a third more time. Raises
    Misconfigured when the folder holds no causal language model with all of its weights, or one
    that is quantised already.
    """
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    config = _read_config(folder)
    with quiet(), without_load_report():
        try:
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                output_loading_info=True,
                dtype=_base_dtype(quantization),
                quantization_config=_bitsandbytes_config(quantization),
                device_map={"": device},  # whole: "auto" would spread it over several GPUs
                **_OFFLINE,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise Misconfigured(f"cannot load a model from {folder}: {_one_line(error)}") from error
        # Transformers draws such weights at random: others than every other participant's.
        for name in sorted(loaded["missing_keys"]):
            raise Misconfigured(f"{folder} has no weight {name}: its files are not complete")
        disable_weight_repacking(model)
        if quantization.kind in ("nf4", "int8"):
            # Also casts norms and embeddings to float32, which 4- and 8-bit training needs. Its own
            # checkpointing is the reentrant variant: see below.
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        model.requires_grad_(False)
        if gradient_checkpointing:
            # The reentrant variant would need gradients at the frozen embeddings.
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model


def load_tokenizer(folder: Path, template: Template = "chat") -> PreTrainedTokenizerBase:
    """Return the tokenizer of a local model folder.

    Raises Misconfigured when there is none, when it lacks the chat template that is needed, or when
    it has neither a padding nor an end-of-sequence token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **_OFFLINE)
    except Exception as error:  # the tokenizers library raises nothing more special
        raise Misconfigured(f"cannot load a tokenizer from {folder}: {_one_line(error)}") from error
    if template == "chat" and not tokenizer.chat_template:
        raise Misconfigured(
            f"{folder} has no chat template: set template to vicuna or alpaca, or choose an "
            "instruction-tuned model"
        )
    # Padding is masked everywhere, so that any token can stand in for it. One that was added to the
    # tokenizer alone has no row in the embedding.
    rows = getattr(_read_config(folder).get_text_config(), "vocab_size", None)
    if tokenizer.pad_token is None or (rows is not None and tokenizer.pad_token_id >= rows):
        if tokenizer.eos_token is None:
            raise Misconfigured(
                f"{folder} has a tokenizer without padding or end-of-sequence token"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_model(folder: Path, template: Template, sequence_length: int) -> None:
    """Raise Misconfigured unless the model in `folder` fits template and length; loads no weights.

    Its tokenizer must be one that `load_tokenizer` accepts, its weights must have the shapes that
    its configuration says, and it must have enough positions.
    """
    load_tokenizer(folder, template)
    check_sequence_length(positions_of(_read_config(folder)), sequence_length)
    _check_shapes(folder)


def _check_shapes(folder: Path) -> None:
    # Quantised, a weight of any shape is taken as it is. Names that transformers converts while it
    # loads are not compared.
    expected = {name: [*each.shape] for name, each in empty_model(folder).named_parameters()}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as weights:
                names = weights.keys()
                found = {name: weights.get_slice(name).get_shape() for name in names}
        except (OSError, SafetensorError) as error:
            raise Misconfigured(f"{file} cannot be read: {_one_line(error)}") from error
        for name in sorted(found.keys() & expected.keys()):
            if found[name] != expected[name]:
                raise Misconfigured(
                    f"{name} in {file} has shape {found[name]}, config.json says {expected[name]}"
                )


def positions_of(config: PretrainedConfig) -> int | None:
    """Return the largest number of tokens that a model was made for; None where it has no limit."""
    # Architectures with relative positions, such as BLOOM's ALiBi, have no such number.
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_sequence_length(positions: int | None, sequence_length: int) -> None:
    """Raise Misconfigured when the model has fewer `positions` than `sequence_length`."""
    # A configuration that names no number of positions sets no limit.
    if positions is not None and sequence_length > positions:
        raise Misconfigured(
            f"sequence length {sequence_length} is more than the {positions} this model can hold"
        )


def attach_lora(model: PreTrainedModel, adapter: Adapter, *, seed: int) -> PeftModel:
    """Return `model` with a fresh adapter: A from `seed`, the same on every machine, and B zero.

    In mode `ffa` only B trains. Adapter values are float32 whatever the base model's type. Raises
    Misconfigured when a target names no module, or the rank is more than a target has.
    """
    _check_targets(model, adapter)
    with quiet():
        adapted = get_peft_model(model, lora_config(adapter))
    reset_adapter(adapted, seed)  # peft's own values depend on torch's version and device
    if adapter.mode == "ffa":
        for name, parameter in adapted.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad_(False)
    return adapted


def lora_config(adapter: Adapter) -> LoraConfig:
    """Return peft's configuration of the adapter."""
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def empty_adapted_model(folder: Path, adapter: Adapter) -> PeftModel:
    """Return the model of a folder with its adapter, all on torch's meta device: shapes only."""
    # No memory for weights: a machine that could not hold the model can still describe a federation
    # or export an adapter.
    model = empty_model(folder)
    with quiet():
        _check_targets(model, adapter)
        return get_peft_model(model, lora_config(adapter), low_cpu_mem_usage=True)


def empty_model(folder: Path) -> PreTrainedModel:
    """Return the model of a folder on torch's meta device: shapes only."""
    config = _read_config(folder)
    with quiet():
        try:
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(config)
        except (OSError, ValueError, KeyError) as error:
            raise Misconfigured(f"cannot read a model in {folder}: {_one_line(error)}") from error


def _read_config(folder: Path) -> PretrainedConfig:
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, **_OFFLINE)
    except (OSError, ValueError, KeyError) as error:
        raise Misconfigured(f"cannot load a model from {folder}: {_one_line(error)}") from error
    # Its weights would be quantised a second time, and have no published form to merge into.
    if getattr(config, "quantization_config", None):
        raise Misconfigured(
            f"{folder} is quantised already: name the model that it was made from, and set "
            "[quantization]"
        )
    return config


def disable_weight_repacking(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from rewriting 4-bit weights in place when the model is evaluated."""
    # On processors with AVX512-BF16, Linear4bit.forward repacks its weight the first time it runs
    # in evaluation mode without gradients. The packed weight serves inference only: training after
    # that is silently wrong (a loss rising from 2.6 to 10 was seen), and the base model can no
    # longer be hashed or merged. Test: test_model.py, which pretends to be such a processor.
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


@contextlib.contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Run a block without gradients and dropout, and restore the mode of every module."""
    # Each on its own: `model.train()` would also switch on dropout where it was off.
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def set_threads(count: int) -> None:
    """Set torch's number of threads in this process; on one machine it does not change results."""
    torch.set_num_threads(count)


def _base_dtype(quantization: Quantization) -> torch.dtype:
    name = "bfloat16" if quantization.kind == "bf16" else quantization.compute_dtype
    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[name]


def _bitsandbytes_config(quantization: Quantization) -> BitsAndBytesConfig | None:
    if quantization.kind == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=quantization.double_quantization,
            bnb_4bit_compute_dtype=_base_dtype(quantization),
        )
    if quantization.kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def linear_modules(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Return (inputs, outputs) of each linear module that can be adapted, by its full name.

    The output layer is none of them: it often is the embedding itself.
    """
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    found = {}
    for name, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, torch.nn.Linear):
            found[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):  # GPT-2's linear layer, its weight the other way round
            found[name] = (module.nx, module.nf)
    return found


def has_conv1d(folder: Path) -> bool:
    """Return whether the model in `folder` has layers with their weights the other way round."""
    return any(isinstance(module, Conv1D) for module in empty_model(folder).modules())


def resolve_targets(folder: Path, adapter: Adapter) -> Adapter:
    """Return the adapter with the names of all linear modules where its targets are ALL_LINEAR.

    Modules with fewer inputs or outputs than the rank, such as gates, are left out.
    """
    if adapter.targets != ALL_LINEAR:
        return adapter
    sizes = _sizes(empty_model(folder))
    names = tuple(name for name in sorted(sizes) if sizes[name] >= adapter.rank)
    return adapter.model_copy(update={"targets": names or ALL_LINEAR})


def _sizes(model: torch.nn.Module) -> dict[str, int]:
    """Return the smallest number of inputs or outputs of the modules of each name."""
    sizes: dict[str, int] = {}
    for full_name, size in linear_modules(model).items():
        name = full_name.rpartition(".")[2]
        sizes[name] = min(*size, sizes.get(name, size[0]))
    return sizes


def _check_targets(model: torch.nn.Module, adapter: Adapter) -> None:
    sizes = _sizes(model)
    # peft does not report a missing target as long as another one exists.
    missing = sorted(set(adapter.targets) - sizes.keys())
    if missing:
        raise Misconfigured(
            f"no linear module named {', '.join(missing)} to adapt: "
            f"this model has {', '.join(sorted(sizes))}"
        )
    for name in adapter.targets:
        if adapter.rank > sizes[name]:
            raise Misconfigured(
                f"rank {adapter.rank} is more than {name} can have: {sizes[name]}, the smaller "
                "number of its inputs and outputs"
            )


def _one_line(error: Exception) -> str:
    # transformers' messages run over several lines; the beginning names the cause.
    return " ".join(str(error).split())[:200]
