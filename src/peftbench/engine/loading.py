"""Base models and tokenizers by folder, or by hub id with a revision: safetensors only, no code of theirs.

What cannot be loaded is said in one sentence. `weightless` makes a model of shapes alone, to count and to plan.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import logging as transformers_logging

from peftbench.engine.model import LanguageModel
from peftbench.engine.probe import in_the_engine
from peftbench.engine.quantized import check_quantization, quantize
from peftbench.errors import ConfigError, DataError, PeftBenchError, first_line
from peftbench.records import TINY
from peftbench.schema import Quantization

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Any of these makes a tokenizer of a model's folder."""

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def located(path: str) -> str:
    """Where the files of a model lie: what was given, or the shipped model's folder for its name."""
    return str(Path(__file__).parents[1] / "tiny") if path == TINY else path


@dataclass(frozen=True)
class Where:
    """Device and precision of a run, resolved."""

    device: str
    dtype: str
    quantization: Quantization | None = None


def choose_device(device: str = "auto", dtype: str = "auto", quantization: Quantization | None = None) -> Where:
    """CUDA in bfloat16 where there is a CUDA device, else the CPU in float32, unless set otherwise.

    Raises `ConfigError` for a device that is not here, or one on which the base cannot be quantized.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda"):
        seen, number = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
        if number >= seen:
            raise ConfigError(
                f"device {device!r} was asked for but torch sees {seen} CUDA devices; use device: cpu"
            )
    elif device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' was asked for but torch sees none here; use device: cpu")
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    check_quantization(quantization, device)
    return Where(device, dtype, quantization)


def name_of_device(device: str) -> str:
    """A device in words, for records: the name of a GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.device(device).type


def threads(count: int | None = None) -> int:
    """Set the number of CPU threads if one is given; returns the number in use."""
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()


def load_model(path: str, revision: str | None, where: Where) -> LanguageModel:
    """Load a base model from a folder or from the hub at a revision.

    Raises `ConfigError` if the name, the revision or the files are not what is needed, `DataError` if the hub
    refuses or cannot be reached.
    """
    check_name(path, revision)
    path = located(path)
    with explained(path):
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
        if stored := getattr(config, "quantization_config", None):
            kind = stored.get("quant_method") if isinstance(stored, dict) else None
            raise ConfigError(
                f"model {path!r} is stored quantized ({str(kind)[:40]}), which no record would say; give the "
                "model that it was made from, with quantization: nf4 or int8 if it is to be quantized"
            )
        for each in (config, config.get_text_config()):
            each._attn_implementation = "eager"  # never what the files name: it could be code from elsewhere
        module, found = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            revision=revision,
            dtype=DTYPES[where.dtype],
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
            output_loading_info=True,
        )
        without = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
        if without:
            raise ConfigError(
                f"model {path!r} is incomplete: its files hold no weights of the right shape for {without[0]}"
                f"{f' and {len(without) - 1} others' if len(without) > 1 else ''}; get the whole model"
            )
        if where.quantization is not None:
            quantize(module, where.quantization, torch.device(where.device))
        return in_the_engine(module.to(where.device).eval())


def load_config(path: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a model: a folder, a `config.json`, or a hub id at a revision."""
    if not (path.endswith(".json") and Path(path).is_file()):
        check_name(path, revision)
    with explained(path):
        return AutoConfig.from_pretrained(located(path), revision=revision, trust_remote_code=False)


def weightless(config: PreTrainedConfig, path: str = "") -> PreTrainedModel:
    """A model of this configuration that holds shapes but no weights, to count and to plan."""
    with explained(path), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False).requires_grad_(False)


def fingerprint(path: str, revision: str | None) -> str:
    """What identifies a model's weights: the hub id and revision, or a hash over the files of a folder."""
    folder = Path(located(path))
    if not folder.is_dir():
        return f"{path}@{revision}"
    digest = hashlib.sha256()
    with explained(path):
        for file in sorted(folder.iterdir()):
            if file.suffix in {".json", ".safetensors", ".model", ".jinja", ".txt"} and not file.is_dir():
                digest.update(f"{file.name}\0".encode())
                digest.update(_sha256(file.resolve(), file.stat().st_mtime_ns, file.stat().st_size))
    return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=1024)
def _sha256(file: Path, _changed: int, _size: int) -> bytes:
    """Hash of a file, read once as long as it does not change."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def load_tokenizer(path: str, revision: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model: folder or hub id with revision; no code from the repository."""
    check_name(path, revision)
    folder = Path(path)
    if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigError(
            f"model folder {path!r} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there; "
            "copy those of the model into it"
        )
    with explained(path):
        return AutoTokenizer.from_pretrained(located(path), revision=revision, trust_remote_code=False)


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Configuration and tensors of an adapter in the format of Hugging Face PEFT; raises `DataError`."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return config, load_file(folder / "adapter_model.safetensors")
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise DataError(
            f"the adapter in {folder} cannot be read ({first_line(error)}); restore its files or train again"
        ) from error


def check_name(path: str, revision: str | None) -> None:
    """Raise `ConfigError` unless this names a model folder, or a hub id together with a commit."""
    folder = Path(located(path))
    try:
        folder.exists()
    except OSError as error:
        raise ConfigError(f"model {path[:80]!r} cannot be a folder here: {error.strerror}") from error
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model folder {path!r} has no config.json; give the folder of a Hugging Face model")
        if (folder / "adapter_config.json").is_file():
            raise ConfigError(
                f"model folder {path!r} holds an adapter (adapter_config.json), which would be loaded into the "
                "base model; give the folder of the base model, or one into which the adapter was merged"
            )
        return
    if folder.exists():
        raise ConfigError(f"model {path!r} is a file; give the folder that holds config.json and the weights")
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise ConfigError(
            f"model {path!r} is neither a folder here nor a hub id of the form owner/name, nor {TINY}"
        )
    if revision is None:
        raise ConfigError(
            f"model {path!r} is a hub id without a revision; set model_revision to the commit that you mean (40 "
            "hexadecimal digits, in the history of its hub page), so that the run can be repeated"
        )


def check_access(path: str, revision: str) -> None:
    """Ask the hub whether a model is there at a commit and may be read; raises `DataError` or `ConfigError`."""
    from huggingface_hub import HfApi

    with explained(path):
        hub = HfApi(library_name="peftbench")
        hub.model_info(path, revision=revision)
        hub.auth_check(path)


def in_cache(path: str, revision: str | None) -> bool:
    """Whether the configuration of a hub model was fetched before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(path, "config.json", revision=revision), str)


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn the loader's errors into one sentence that says what to do."""
    from huggingface_hub import errors as hub

    # Progress and warnings are ours to show; what matters comes back as an error.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except PeftBenchError:
        raise
    except Exception as error:  # the files of a model are foreign, and libraries trip over them in any way
        # The loader wraps what the hub answered; that is the reason to tell.
        reasons = [error, error.__cause__, getattr(error.__cause__, "__cause__", None)]
        unknown = (hub.RepositoryNotFoundError, hub.RevisionNotFoundError)
        if any(isinstance(reason, hub.GatedRepoError) for reason in reasons):
            raise DataError(
                f"model {path!r} is gated: accept its terms on its hub page and give a token by HF_TOKEN"
            ) from error
        if any(isinstance(reason, unknown) for reason in reasons):
            raise DataError(
                f"the hub has no model {path!r} at this revision, or it is private: check both, or give a token "
                "by HF_TOKEN"
            ) from error
        raise ConfigError(f"model {path!r} cannot be loaded: {first_line(error)}{_hint(path, error)}") from error


def _hint(path: str, error: Exception) -> str:
    folder = Path(path)
    if not folder.is_dir():
        offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE")
        if offline:
            return " (the hub is switched off by HF_HUB_OFFLINE)"
        return "; check the connection and the name, or give the folder of a copy"
    if isinstance(error, SafetensorError):
        return "; its weights are damaged, fetch them again"
    if "weights" in str(error) or "safetensors" in str(error):
        return "; the folder holds no .safetensors file, and other formats are not read because they can run code"
    return "; get the whole model again, or another one that transformers knows"


def model_label(path: str) -> str:
    """A short name of a model for folders and tables: the last part of its path or hub id."""
    return Path(path).name if Path(path).is_dir() else path.split("/")[-1]
