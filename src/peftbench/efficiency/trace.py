"""What operators cost, seen while they run: FLOPs, bytes moved, and every byte that is alive.

Works on tensors without data (device meta) as on real ones, through torch's dispatch: forward, backward and
optimizer alike. What a kernel allocates inside and frees again is not seen.
"""

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from peftbench.efficiency.cost import Kind, MemoryPoint, Operation, Work

aten = torch.ops.aten

TIMELINE_POINTS = 200
"""Stretches into which a timeline is summed up."""

# Operators that make or move numbers without computing any.
_MOVES = frozenset(
    {
        "clone", "_to_copy", "copy_", "cat", "stack", "index_select", "index", "index_put", "index_put_",
        "_index_put_impl_", "gather", "embedding", "index_copy", "scatter", "select_backward", "slice_backward",
        "constant_pad_nd", "repeat", "repeat_interleave", "fill_", "zero_", "tril", "triu", "arange", "flip",
        "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "new_zeros", "new_ones",
        "new_full", "zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "scalar_tensor", "bernoulli_",
    }
)  # fmt: skip
_EMPTY = frozenset(name for name in _MOVES if "empty" in name)


def _product(out: Tensor, factor: Tensor) -> int:
    return 2 * out.numel() * int(factor.shape[-1])


def _attention(query: Tensor, key: Tensor, products: int) -> int:
    return 2 * products * math.prod(query.shape) * int(key.shape[-2])


# The backward pass of attention makes the scores again and four products more.
_FLOPS: dict[Any, Callable[[Any, Any], int]] = {
    aten.mm: lambda out, args: _product(out, args[0]),
    aten.bmm: lambda out, args: _product(out, args[0]),
    aten.addmm: lambda out, args: _product(out, args[1]),
    aten.baddbmm: lambda out, args: _product(out, args[1]),
    aten.convolution: lambda out, args: 2 * out.numel() * math.prod(args[1].shape[1:]),
    **{
        getattr(aten, f"_scaled_dot_product_{kind}"): lambda _, args: _attention(args[0], args[1], 2)
        for kind in ("flash_attention_for_cpu", "flash_attention", "efficient_attention")
    },
    **{
        getattr(aten, f"_scaled_dot_product_{kind}_backward"): lambda _, args: _attention(args[1], args[2], 5)
        for kind in ("flash_attention_for_cpu", "flash_attention", "efficient_attention")
    },
}


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs inside of `with trace:`; tensors made there are followed until they die.

    `kind` says what tensors are that appear from now on; `vocabulary` tells logits from other activations by
    their last dimension. `granule_bytes` is what the allocator rounds up to.
    """

    def __init__(self, *, vocabulary: int = 0, granule_bytes: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind: Kind = "activations"
        self.vocabulary, self.granule_bytes = vocabulary, granule_bytes
        self.operators = 0
        self._made: dict[Any, list[Callable[[], Tensor]]] = {}
        """What operators without data gave: layers are alike, and torch takes long to work out a shape."""
        self._sizes: list[int] = []
        self._kinds: list[Kind] = []
        self._events: list[tuple[int, int, int]] = []
        """Number of the operator, number of the storage, and +1 where it came or -1 where it went."""
        self._alive: dict[int, tuple[int, Any]] = {}
        """Address of each live storage to its number and a weak reference that tells of its end."""
        self.start()

    # -- what happened -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Count work and the course of memory from here on."""
        self._begin = self.operators
        self._operations: Counter[tuple[int, int, str]] = Counter()
        self._elementwise = 0

    def hold(self, tensors: Iterable[Tensor | None], kind: Kind) -> None:
        """Follow tensors that were made before or elsewhere, or say what those are that are followed already."""
        for tensor in tensors:
            if tensor is not None:
                self._kinds[self._number(tensor)] = kind

    @contextmanager
    def making(self, kind: Kind) -> Iterator[None]:
        """What is made inside is of this kind."""
        before, self.kind = self.kind, kind
        try:
            yield
        finally:
            self.kind = before

    def work(self) -> Work:
        """What was computed since `start`."""
        found = [
            Operation(count=count, matmul_flops=flops, moved_bytes=moved, dtype=dtype)
            for (flops, moved, dtype), count in self._operations.items()
        ]
        return Work(
            matmul_flops=sum(each.count * each.matmul_flops for each in found),
            elementwise_flops=self._elementwise,
            launches=sum(each.count for each in found),
            operations=tuple(found),
        )

    def timeline(self) -> tuple[MemoryPoint, ...]:
        """The most live bytes in each stretch of the operators since `start`."""
        length = max(1, self.operators - self._begin)
        live: dict[Kind, int] = dict.fromkeys(get_args(Kind), 0)
        total = 0
        most: dict[int, MemoryPoint] = {}
        ends = [(operator, -1, 0) for operator in range(self._begin, self.operators + 1)]
        for operator, number, sign in sorted([*self._events, *ends], key=lambda event: event[0]):
            if number >= 0:
                live[self._kinds[number]] += sign * self._sizes[number]
                total += sign * self._sizes[number]
            stretch = (operator - self._begin) * TIMELINE_POINTS // length
            if stretch >= 0 and (stretch not in most or total > most[stretch].total_bytes):
                point = MemoryPoint.model_construct(
                    operator=operator - self._begin, total_bytes=total, bytes=dict(live)
                )
                most[stretch] = point
        return tuple(most.values())

    # -- how it is seen ------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            # A family asks something of values that are not there, such as whether a mask is full.
            return torch.ones((), dtype=args[0].dtype, device="cpu").item()
        key = None if func._schema.is_mutable else _key(func, args, kwargs or {})
        made = self._made.get(key)
        if made is not None:
            out = made[0]() if len(made) == 1 else tuple(make() for make in made)
        else:
            out = func(*args, **(kwargs or {}))
        self.operators += 1
        results = _tensors((out,))
        known = len(self._sizes)
        for each in results:
            self._number(each)
        if key is not None and made is None and len(self._sizes) - known == len(results) == _length(out):
            self._made[key] = [_maker(each) for each in results]
        if len(self._sizes) > known or func._schema.is_mutable:
            self._count(func, out, results, args, kwargs or {})
        return out

    def _number(self, tensor: Tensor) -> int:
        """The number of a tensor's storage, which is followed from now on."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._alive:
            return self._alive[address][0]
        number = len(self._sizes)
        is_logits = self.kind == "activations" and tensor.shape[-1:] == (self.vocabulary,)
        self._sizes.append(-(-storage.nbytes() // self.granule_bytes) * self.granule_bytes)
        self._kinds.append("logits" if is_logits and tensor.is_floating_point() else self.kind)
        self._events.append((self.operators, number, 1))
        self._alive[address] = (number, weakref.ref(storage, partial(self._gone, address)))
        return number

    def _gone(self, address: int, _: Any) -> None:
        number, _ = self._alive.pop(address)
        self._events.append((self.operators, number, -1))

    def _count(self, func: Any, out: Any, results: list[Tensor], args: Any, kwargs: Any) -> None:
        packet = func._overloadpacket
        name = packet.__name__
        flops = _FLOPS[packet](out, args) if packet in _FLOPS else 0
        given = _tensors((*args, *kwargs.values()))
        if packet not in _FLOPS and name not in _MOVES:
            sizes = [each.numel() for each in (*given, *results) if each.is_floating_point()]
            # An operator over lists works on all of them, others on elements that they broadcast to the largest.
            lists = any(isinstance(each, list) for each in args) and func._schema.is_mutable
            self._elementwise += sum(sizes) if lists else max(sizes, default=0)
        # An expanded tensor is read from what is stored of it.
        moved = 0 if name in _EMPTY else sum(
            min(each.numel() * each.element_size(), each.untyped_storage().nbytes())
            for each in {id(each): each for each in (*given, *results)}.values()
        )  # fmt: skip
        dtype = str(results[0].dtype).removeprefix("torch.") if results else "none"
        self._operations[flops, moved, dtype] += 1


def _key(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Operator and arguments, tensors by their shape; None if one has data, or there is none, or no hash."""
    values = [*args, *kwargs.values()]
    found: list[Any] = [func, *kwargs]
    tensors = 0
    for value in values:
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, Tensor):
                if not each.is_meta:
                    return None
                found.append((tuple(each.shape), each.stride(), each.dtype))
                tensors += 1
            elif isinstance(each, list | torch.Generator):
                return None
            else:
                found.append((type(each), each))
        found.append(None)
    return tuple(found) if tensors else None


def _length(out: Any) -> int:
    return len(out) if isinstance(out, tuple) else 1


def _maker(tensor: Tensor) -> Callable[[], Tensor]:
    """Makes further tensors like this one."""
    return partial(torch.empty_strided, tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype, device="meta")


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Tensors among arguments or results, and in lists of them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [each for each in value if isinstance(each, Tensor)]
    return found
