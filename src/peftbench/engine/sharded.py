"""A frozen model in shares: each process keeps a part of every matrix and sees one layer whole at a time.

torch's `fully_shard` (FSDP2) gathers a layer's weights before it runs, forward and backward, and drops them then.
Vectors (norms, biases) are whole everywhere: they are small, and LN tuning starts from them.
"""

import ctypes
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from peftbench.engine.adapter import Adapter
from peftbench.engine.loading import DTYPES, Where, check_name, explained, located
from peftbench.engine.model import LanguageModel
from peftbench.engine.probe import in_the_engine
from peftbench.engine.processes import lead
from peftbench.engine.ranks import Ranks, collective
from peftbench.errors import ConfigError


def load_sharded(path: str, revision: str | None, where: Where, processes: int) -> LanguageModel:
    """The base model of a folder, or of a hub id at a revision, in shares over so many processes.

    Each process reads its rows alone; beside its share it holds what `fully_shard` gathers at a time. Raises
    `ConfigError` if the model cannot be sharded, `DataError` if the hub refuses, `ProcessEnded` if a process does
    not come up or ends.
    """
    check_name(path, revision)
    folder = _folder(path, revision)
    ranks = lead(processes)
    model: LanguageModel = ranks.load(load_share, path, folder, where, torch.get_num_threads())
    return model


def load_share(ranks: Ranks, path: str, folder: str, where: Where, threads: int) -> LanguageModel:
    """This process's share of the model in a folder; all processes load at once."""
    torch.set_num_threads(threads)
    device = torch.device(where.device)
    if device.type == "cuda":
        device = torch.device("cuda", ranks.local_rank)
        torch.cuda.set_device(device)
    else:
        _give_memory_back()
    with explained(path):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        for each in (config, config.get_text_config()):
            each._attn_implementation = "eager"
        with _weightless():
            module = AutoModelForCausalLM.from_config(
                config, dtype=DTYPES[where.dtype], trust_remote_code=False, attn_implementation="eager"
            )
        names = _by_parameter(module)
        shard(module.eval().requires_grad_(False), init_device_mesh(device.type, (ranks.count,)))
        # What is still without data gets room for it here; buffers have their values already.
        module._apply(lambda each: torch.empty_like(each, device=device) if each.is_meta else each.to(device))
        _fill(module, names, Path(folder), path, ranks)
        model = in_the_engine(module)
    model.ranks = ranks
    if ranks.rank == 0:
        embeddings = module.get_input_embeddings()
        embeddings.register_forward_pre_hook(lambda *_: _invite(model), prepend=True)
    return model


def shard(module: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Shard all matrices of a model: layer by layer, embeddings and head, and what is left.

    Raises `ConfigError` for a model whose layers are not found, or that keeps parts in another precision.
    """
    name, depth = type(module).__name__, module.config.get_text_config().num_hidden_layers
    layers = next(
        (each for each in module.modules() if isinstance(each, nn.ModuleList) and len(each) == depth), None
    )
    if layers is None:
        raise ConfigError(
            f"{name} cannot be sharded: its layers are not in one list; run it with engine.processes=1"
        )
    if len({each.dtype for each in module.parameters()}) > 1:
        raise ConfigError(f"{name} cannot be sharded: it mixes precisions; run it with engine.processes=1")
    vectors = {each for each in module.parameters() if each.dim() < 2}
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=vectors)
    embeddings, head = module.get_input_embeddings(), module.get_output_embeddings()
    if head is not None and head.weight is not embeddings.weight:
        for each in (embeddings, head):
            fully_shard(each, mesh=mesh, reshard_after_forward=True, ignored_params=vectors)
    root: Any = fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=vectors)
    if not isinstance(embeddings, FSDPModule):
        # Tied to the head they belong to the root, and are asked for before it runs.
        embeddings.register_forward_pre_hook(lambda *_: root.unshard())


@collective
def weight_bytes(model: LanguageModel, _: Adapter | None = None) -> list[int]:
    """Bytes of the weights that each process keeps between passes, by rank."""
    held = {id(each): _local(each) for each in model.module.parameters()}
    own = sum(each.numel() * each.element_size() for each in held.values())
    return [own] if model.ranks is None else model.ranks.gathered(own)


def gather_embeddings(model: LanguageModel, _: Adapter | None = None) -> None:
    """Take part in a look-up of another process, whatever it looks up."""
    model.module.get_input_embeddings()(torch.zeros(1, dtype=torch.int64, device=model.device))


def _invite(model: LanguageModel) -> None:
    """Embeddings that the leader looks up outside of a pass, for initial values, need the others as well."""
    assert model.ranks is not None
    if not model.ranks.inside:
        model.ranks.invite(gather_embeddings)


def _give_memory_back() -> None:
    """Have what a layer took go back to the system: glibc would keep more than the whole model in the end."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD: blocks from 1 MiB on are mapped, and unmapped


@contextmanager
def _weightless() -> Iterator[None]:
    """Modules made inside have parameters of shapes alone; their buffers, which no file holds, are real."""
    register = nn.Module.register_parameter

    def without_data(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(self, name, parameter)

    nn.Module.register_parameter = without_data  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _by_parameter(module: nn.Module) -> list[list[str]]:
    """Names of the tensors that files hold, those of one tied parameter together."""
    found: dict[int, list[str]] = {}
    for name, each in module.state_dict(keep_vars=True).items():
        found.setdefault(id(each), []).append(name)
    return list(found.values())


def _fill(module: PreTrainedModel, names: list[list[str]], folder: Path, path: str, ranks: Ranks) -> None:
    """Read this process's rows of every tensor, straight from the mapped files into its share."""
    state = module.state_dict(keep_vars=True)
    prefix = f"{module.base_model_prefix}."
    with ExitStack() as opened, torch.no_grad():
        files = dict(_tensors(folder, opened))
        for alike in names:
            known = [key for name in alike for key in (name, name.removeprefix(prefix)) if key in files]
            if not known:
                raise ConfigError(
                    f"model {path!r} cannot be sharded: its files hold no weights under the name {alike[0]}; run "
                    "it with engine.processes=1, where other layouts of files are known"
                )
            target, stored = state[alike[0]], files[known[0]].get_slice(known[0])
            if list(stored.get_shape()) != list(target.shape):
                raise ConfigError(
                    f"model {path!r} is incomplete: {known[0]} has not the right shape; get it again"
                )
            local = _local(target)
            if not isinstance(target, DTensor):
                local.copy_(files[known[0]].get_tensor(known[0]))
            elif len(local):
                start = ranks.rank * -(-target.shape[0] // ranks.count)  # rows lie as `torch.chunk` parts them
                local.copy_(stored[start : start + len(local)])


def _tensors(folder: Path, opened: ExitStack) -> Iterator[tuple[str, Any]]:
    """Each tensor's name with the open file that holds it."""
    index = folder / "model.safetensors.index.json"
    single = ["model.safetensors"]
    parts = (
        set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else single
    )
    for part in sorted(parts):
        file = opened.enter_context(safe_open(folder / part, framework="pt"))
        yield from ((key, file) for key in file.keys())  # noqa: SIM118


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _folder(path: str, revision: str | None) -> str:
    """Where the model's files lie on this machine; those of the hub are fetched."""
    if Path(located(path)).is_dir():
        return located(path)
    from huggingface_hub import snapshot_download

    with explained(path):
        return snapshot_download(path, revision=revision, allow_patterns=["*.json", "*.safetensors"])
