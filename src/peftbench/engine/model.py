"""A frozen causal language model of Hugging Face, unmodified, run on packed streams.

Loading is by folder or by hub id with a revision, safetensors only, no code from the repository. Logits are
computed only where something is predicted: the stream's answer rows are picked just before the output head.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from peftbench.engine.adapter import Adapter
from peftbench.engine.attention import ATTENTION, Cache, Layout
from peftbench.engine.pack import Sample, Stream, pack
from peftbench.errors import ConfigError, DataError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


class LanguageModel:
    """A base model with frozen weights, ready for packed streams."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module.eval().requires_grad_(False)
        module.set_attn_implementation(ATTENTION)
        self._rows: Tensor | None = None
        head = module.get_output_embeddings()
        if head is None:
            raise ConfigError(f"{type(module).__name__} has no output head; a causal language model is needed")
        head.register_forward_pre_hook(self._pick_answer_rows)

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the text model."""
        return self.module.config.get_text_config()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return torch.device(self.module.device)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights."""
        dtype: torch.dtype = self.module.dtype
        return dtype

    @property
    def context(self) -> int | None:
        """Most positions the model was made for; None where its configuration does not say."""
        limit = getattr(self.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    def logits(self, stream: Stream, adapter: Adapter | None, cache: Cache | None = None) -> Tensor:
        """Logits at the answer positions of each row, (runs, answers, vocabulary).

        The adapter must be attached. With `cache` (one row only) keys and values are kept for `next_logits`.
        """
        layout = Layout(stream, prefix=adapter.prefix() if adapter else None, cache=cache)
        embeddings = self._embed(stream, adapter.soft_prompt() if adapter else None)
        with self._picking(stream.answer_rows):
            logits = self._forward(embeddings, stream.positions, layout)
        return logits.view(stream.runs, -1, logits.shape[-1])

    def next_logits(self, tokens: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """Logits after one more token for each sample of the cache: tokens (samples,) -> (samples, vocabulary)."""
        layout = Layout(None, cache=cache, positions=positions[None, :])
        embeddings = self.module.get_input_embeddings()(tokens[None, :])
        logits = self._forward(embeddings, positions[None, :], layout)
        return logits[0]

    def _forward(self, embeddings: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        out = self.module(inputs_embeds=embeddings, position_ids=positions, use_cache=False, layout=layout)
        return out.logits  # type: ignore[no-any-return]

    def _embed(self, stream: Stream, soft_prompt: Tensor | None) -> Tensor:
        ids = stream.token_ids
        embeddings = self.module.get_input_embeddings()(ids.clamp(min=0))
        if soft_prompt is None:
            return embeddings  # type: ignore[no-any-return]
        virtual = soft_prompt.shape[1]
        if stream.shared >= virtual:  # the soft prompt stands once at the head of each row
            return torch.cat([soft_prompt, embeddings[:, virtual:]], dim=1)
        index = (-1 - ids).clamp(min=0)[:, :, None].expand(-1, -1, embeddings.shape[-1])
        return torch.where(ids[:, :, None] < 0, soft_prompt.gather(1, index), embeddings)

    @contextmanager
    def _picking(self, rows: Tensor) -> Iterator[None]:
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def _pick_answer_rows(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._rows is None:
            return args
        hidden = args[0]  # (runs, tokens, width)
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._rows)[None], *args[1:])


@dataclass(frozen=True)
class Where:
    """Device and precision of a run, resolved."""

    device: str
    dtype: str


def choose_device(device: str = "auto", dtype: str = "auto") -> Where:
    """CUDA in bfloat16 where there is a CUDA device, else the CPU in float32, unless set otherwise."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} was asked for but torch sees no CUDA device; use device: cpu")
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    return Where(device, dtype)


def load_model(path: str, revision: str | None, where: Where) -> LanguageModel:
    """Load a base model from a folder or from the hub at a revision.

    Raises `ConfigError` if the name, the revision or the files are not what is needed, `DataError` if the hub
    refuses or cannot be reached.
    """
    _check_model_name(path, revision)
    with _explained(path):
        module = AutoModelForCausalLM.from_pretrained(
            path, revision=revision, dtype=DTYPES[where.dtype], use_safetensors=True, trust_remote_code=False
        )
    model = LanguageModel(module.to(where.device))
    check_packing(model)
    return model


def load_config(path: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a model: a folder, a `config.json`, or a hub id at a revision."""
    if path.endswith(".json") and Path(path).is_file():
        folder, name = str(Path(path).parent), Path(path).name
        with _explained(path):
            return AutoConfig.from_pretrained(folder, _configuration_file=name, trust_remote_code=False)
    _check_model_name(path, revision)
    with _explained(path):
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)


def weightless(config: PreTrainedConfig) -> PreTrainedModel:
    """A model of this configuration that holds shapes but no weights, to count and to plan."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False).requires_grad_(False)


def fingerprint(path: str, revision: str | None) -> str:
    """What identifies a model's weights: the hub id and revision, or a hash over the files of a folder."""
    folder = Path(path)
    if not folder.is_dir():
        return f"{path}@{revision}"
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".safetensors", ".model", ".jinja", ".txt"}:
            digest.update(f"{file.name}\0".encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


@torch.no_grad()
def check_packing(model: LanguageModel) -> None:
    """Refuse a model whose samples see one another in a packed stream.

    Two samples are run together and alone. Attention obeys the layout; blocks that mix tokens by other means
    (state-space, recurrent, convolution) do not, and are found here whatever they are called.
    """
    vocabulary = int(model.config.vocab_size)
    first = Sample(tuple(i % vocabulary for i in (3, 8, 5, 9)), (7 % vocabulary,))
    second = Sample(tuple(i % vocabulary for i in (6, 2, 4)), (5 % vocabulary,))
    together = model.logits(pack([[first, second]], device=model.device), None)[0, 1].float()
    alone = model.logits(pack([[second]], device=model.device), None)[0, 0].float()
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    if not torch.allclose(together, alone, rtol=tolerance, atol=tolerance * float(alone.abs().max())):
        raise ConfigError(
            f"{type(model.module).__name__} cannot be packed: its blocks mix tokens other than by attention, so "
            "samples of one batch would see one another; use a model whose blocks mix tokens by attention alone"
        )


def _check_model_name(path: str, revision: str | None) -> None:
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model folder {path!r} has no config.json; give the folder of a Hugging Face model")
        return
    if folder.exists():
        raise ConfigError(f"model {path!r} is a file; give the folder that holds config.json and the weights")
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise ConfigError(f"model {path!r} is neither a folder here nor a hub id of the form owner/name")
    if revision is None:
        raise ConfigError(
            f"model {path!r} is a hub id without a revision; set model_revision to the commit that you mean, "
            "so that the run can be repeated"
        )


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn the loader's errors into one sentence that says what to do."""
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.GatedRepoError as error:
        raise DataError(
            f"model {path!r} is gated: accept its terms on its hub page and give a token by HF_TOKEN"
        ) from error
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError) as error:
        raise DataError(
            f"the hub has no model {path!r} at this revision, or it is private: check both, or give a token by "
            "HF_TOKEN"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"a configuration file of model {path!r} is not JSON: {error}") from error
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"model {path!r} cannot be loaded: {_first_line(error)}{_hint(path)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _hint(path: str) -> str:
    folder = Path(path)
    if not folder.is_dir():
        offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE")
        return " (the hub is switched off by HF_HUB_OFFLINE)" if offline else ""
    if not any(folder.glob("*.safetensors")):
        return "; the folder holds no .safetensors file, and other formats are not read because they can run code"
    return ""


def model_label(path: str) -> str:
    """A short name of a model for folders and tables: the last part of its path or hub id."""
    return Path(path).name if Path(path).is_dir() else path.split("/")[-1]
