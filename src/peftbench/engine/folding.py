"""A trained adapter folded into the weights of the base, found by asking its forward functions.

What acts on a projection as a linear map is told by its outputs for zero and for unit inputs. No method says
here how it is merged, so that none can say it wrongly.
"""

import torch
from torch import Tensor, nn

from peftbench.engine.adapter import Adapter, features
from peftbench.errors import ConfigError


@torch.no_grad()
def folded(adapter: Adapter) -> dict[str, Tensor]:
    """New weights and biases by the names of parameters, biases that the base lacks included; for one run.

    Raises `ConfigError` if the adapter acts on something that is no linear projection.
    """
    names = {id(module): name for name, module in adapter.model.named_modules()}
    found: dict[str, Tensor] = {}
    for module, forward in adapter.forwards():
        name = names[id(module)]
        if not isinstance(module, nn.Linear) and type(module).__name__ != "Conv1D":
            raise ConfigError(f"what acts on {name} is no linear projection and cannot be folded into a weight")
        inputs, _ = features(module)
        zero = torch.zeros(1, 1, inputs, dtype=adapter.base_dtype, device=adapter.device)
        bias = forward(zero)[0, 0]
        unit = torch.eye(inputs, dtype=adapter.base_dtype, device=adapter.device)
        weight = forward(unit[None])[0] - bias  # (inputs, outputs)
        found[f"{name}.weight"] = weight.T if isinstance(module, nn.Linear) else weight
        if bias.any():
            found[f"{name}.bias"] = bias
    return found
