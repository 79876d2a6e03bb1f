"""Adapters as peft writes them, with random values."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from training.sources import ModelSource


def base(tiny: ModelSource) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32)


def adapter(tiny: ModelSource, folder: Path, seed: int, **settings: Any) -> Path:
    """Write a peft adapter with random values, as peft writes it."""
    given = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings}
    model = get_peft_model(base(tiny), LoraConfig(task_type="CAUSAL_LM", **given))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    return folder
