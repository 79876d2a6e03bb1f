"""The model card of an exported adapter or model: what can be checked about it, and what cannot."""

from typing import Final

from commonweight.model.adapters import FederatedAdapter
from protocol.cid import raw_cid

_ADAPTER: Final = """Load it with peft, which finds the base model by itself:

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("this-folder")
tokenizer = AutoTokenizer.from_pretrained("this-folder")
```"""
_MERGED: Final = """Load it with transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this-folder")
tokenizer = AutoTokenizer.from_pretrained("this-folder")
```"""


def model_card(adapter: FederatedAdapter, hub_name: str | None, merged: str | None) -> str:
    """Return README.md of an export; `merged` is the precision of a whole model.

    `hub_name` is the base model's name on the Hugging Face hub, None when it came from elsewhere.
    """
    spec, origin = adapter.spec, adapter.origin
    base, lora, training = spec.base_model, spec.adapter, spec.training
    head = ["library_name: peft" if merged is None else "library_name: transformers"]
    head += [f"base_model: {hub_name}"] * (hub_name is not None)
    head += ["pipeline_tag: text-generation", "tags: [federated-learning, lora]"]
    facts = {
        "federation": f"`{origin.federation}` on chain {origin.chain_id}",
        "round": f"{origin.round}" if origin.round else "0: nothing is trained yet",
        "root of the model": f"`{origin.root.hex()}`",
        "manifest": f"`{raw_cid(origin.manifest)}`",
        "spec": f"`{spec.digest().hex()}`",
        "base model": f"{base.name} at {base.revision}",
        "its weights": f"`{base.weights_digest}`",
        "its tokenizer": f"`{base.tokenizer_digest}`",
        "adapter": f"LoRA ({lora.mode}), rank {lora.rank}, alpha {lora.alpha}, on"
        f" {', '.join(lora.targets)}",
        "trained beside": f"{spec.quantization.kind}, {spec.quantization.compute_dtype}",
        "a round": f"{training.steps} steps of {training.batch_size} examples, at most"
        f" {training.sequence_length} tokens each; learning rate {training.learning_rate}",
        "prompt": f"template {spec.template}",
        "held-out set": f"`{spec.evaluation_digest}`",
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
{chr(10).join(head)}
---

# {base.name}, fine-tuned by a federation

Trained together by people who do not share their data, with Commonweight.

| | |
|---|---|
{rows}

{_ADAPTER if merged is None else _MERGED}

## Data

The participants' data are private and are described by nobody. Which updates are in the model, and
how many examples each claimed, is on the chain: `commonweight audit run {origin.federation}`
recomputes the root from them. That the participants trained on what they claim is not proved. The
held-out set is public: the block with the digest above.

## Licence

The base model's licence holds for this one too. What the federation's members agreed on beyond it
is not recorded here.
"""
