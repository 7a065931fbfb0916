"""The embedded model as a folder of safetensors, for engines on PyTorch. Needs torch, transformers, accelerate."""

from __future__ import annotations

from pathlib import Path


def safetensors_of(gguf: Path, made: Path) -> None:
    """Write the numbers of a GGUF file, its configuration and its tokenizer into the folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, file = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
    made.mkdir(exist_ok=True)
    state = model.state_dict().items()
    tensors = {name: numbers.contiguous().to(torch.bfloat16) for name, numbers in state if "lm_head" not in name}
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    del model.config.quantization_config
    model.config.dtype = "bfloat16"
    model.config.save_pretrained(made)
    model.generation_config.save_pretrained(made)
    AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(made)
