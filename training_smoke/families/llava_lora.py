"""Adapters of low rank in a language model's place: Hu et al. 2021 (arXiv:2106.09685), by peft.

adapted(language_model, rank=128, alpha=256)         # now only the adapters learn
plain_state(model)                                   # weights with the adapters added, under their first names
"""

from __future__ import annotations

from torch import Tensor, nn

from training_smoke.errors import TrainingError

DROPOUT = 0.05  # of LLaVA's LoRA runs
ADAPTER = "default"


def adapted(language_model: nn.Module, rank: int, alpha: float) -> None:
    """Put adapters beside all linear layers; everything else of the model loses `requires_grad`.

    Raises:
        TrainingError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as e:
        raise TrainingError(f"settings.lora needs peft: pip install 'curate[lora]', or train without ({e})") from e
    linear = [name for name, module in language_model.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # any number will do
        lora_dropout=DROPOUT,
        target_modules=linear,
    )
    inject_adapter_in_model(config, language_model, adapter_name=ADAPTER)
    for name, parameter in language_model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state as it would be without adapters: what they learned is added to the weights beside them."""
    state = {name.replace(".base_layer.", "."): t for name, t in model.state_dict().items() if ".lora_" not in name}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            delta = module.get_delta_weight(ADAPTER)
            state[f"{name}.weight"] = state[f"{name}.weight"] + delta.to(state[f"{name}.weight"].dtype)
    return state
