"""A soft prompt whose tokens are mixtures of a few trained vectors, with a penalty that keeps mixtures apart."""

import torch
from torch import Tensor, nn

from peftbench.own import Additions, Count, Frozen, MethodSpec


class Settings(Frozen):
    """Settings of the mixed prompt."""

    virtual_tokens: Count = 16
    """Length of the prompt."""
    vectors: Count = 4
    """Trained vectors of which every token is a mixture."""


class MixedPrompt(nn.Module):
    """softmax(mixture) @ vectors: (virtual tokens, width)."""

    def __init__(self, embeddings: Tensor, settings: Settings) -> None:
        super().__init__()
        chosen = torch.randint(len(embeddings), (settings.vectors,))
        self.vectors = nn.Parameter(embeddings.detach()[chosen].clone())
        self.mixture = nn.Parameter(torch.randn(settings.virtual_tokens, settings.vectors))

    def forward(self) -> Tensor:
        return torch.softmax(self.mixture, dim=-1) @ self.vectors

    def sameness(self) -> Tensor:
        """Mean similarity of two mixtures: what the penalty makes smaller."""
        shares = torch.softmax(self.mixture, dim=-1)
        return 0.01 * (shares @ shares.T).mean()


def build(model: nn.Module, settings: Settings) -> Additions:
    """The prompt, its vectors begun as embeddings of tokens drawn from the vocabulary."""
    prompt = MixedPrompt(model.get_input_embeddings().weight, settings)
    return Additions(soft_prompt=prompt, penalty=prompt.sameness)


method = MethodSpec(
    name="mixed_prompt",
    version=1,
    title="Mixed prompt",
    category="additive, soft prompt",
    summary="Trains a few vectors and, for each token of a soft prompt, how it is mixed of them.",
    source="example of this project",
    settings=Settings,
    build=build,
    identity_at_start=False,
    mergeable=False,
    parameters=lambda config, s: s.vectors * (config.hidden_size + s.virtual_tokens),
)
