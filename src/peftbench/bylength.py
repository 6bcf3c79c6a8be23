"""The cost of one method on one model by the length of samples: predicted at a few lengths, interpolated between.

Lengths come from the catalogue in characters. How many make a token is found with the model's own tokenizer where
its folder is here, and else taken as four.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peftbench.datasets.lengths import lengths_of
from peftbench.efficiency.cost import Engine, Prediction, Range
from peftbench.efficiency.devices import CONTEXT_BYTES, Device, RunCost, StepCost, roofline, run_cost
from peftbench.efficiency.models import config_of, shipped_model
from peftbench.efficiency.plan import predict
from peftbench.engine.base import text_density
from peftbench.engine.loading import in_cache, located
from peftbench.errors import ConfigError, PeftBenchError
from peftbench.methods.plugins import spec_of
from peftbench.records import RunConfig
from peftbench.schema import DatasetSpec, LengthQuantiles

CHARACTERS_PER_TOKEN = 4.0
"""Of English text with a vocabulary of 30,000 and more, about."""
HEADER_TOKENS = 24
"""What a chat template puts around a message, about."""
LENGTHS = tuple(2**power for power in range(4, 18))
"""Lengths at which costs are predicted; between them they are close to straight lines."""


@dataclass(frozen=True)
class SampleLengths:
    """Tokens of the samples of a dataset, estimated."""

    median: int
    p95: int
    least: int
    """Header, instruction and an answer."""
    shared: int
    """Header and instruction, with which all samples begin."""
    answer: int
    longest_answer: int


def sample_lengths(spec: DatasetSpec, costs: "Costs") -> SampleLengths:
    """Lengths of a dataset's samples in tokens of a model."""
    density = text_density(costs.config.model, spec.instruction)  # by the model's own tokenizer, if that is here
    ratio, header = density or (CHARACTERS_PER_TOKEN, HEADER_TOKENS)
    known = lengths_of(spec)
    prompt = known.prompt_characters if known else LengthQuantiles(median=400, p95=1200, longest=4000)
    target = known.target_characters if known else LengthQuantiles(median=20, p95=60, longest=200)

    def tokens(characters: float) -> int:
        return round(characters / ratio) + 1

    answer, longest = tokens(target.median) + 1, tokens(target.p95) + 1
    shared = header + tokens(len(spec.instruction))
    return SampleLengths(
        median=header + tokens(prompt.median) + answer,
        p95=header + tokens(prompt.p95) + longest,
        least=shared + answer,
        shared=shared,
        answer=answer,
        longest_answer=longest,
    )


def cost_of_run(
    config: RunConfig, spec: DatasetSpec, costs: "Costs", tokens: int, lengths: SampleLengths
) -> tuple[int, RunCost | None]:
    """Steps of training, and time and energy of the whole run on the device."""
    training = config.training
    rows = min(config.data.train_rows or spec.counts.train, spec.counts.train)
    held_out = max(1, rows // 10)
    steps = training.epochs * -(-(rows - held_out) // training.batch_size)
    answers = min(config.evaluation.test_rows or spec.counts.test, spec.counts.test)
    # What all samples begin with is computed once a step, where dropout does not forbid it.
    batch, shares = training.batch_size, costs.shares(config)
    shared = min(lengths.shared, tokens) if shares else 0
    step = costs.at((shared + batch * (tokens - shared)) / batch)[1]
    answering = costs.at(tokens)[1]
    if step is None or answering is None:
        return steps, None
    together = step.model_copy(
        update={name: getattr(answering, name) for name in ("answer_prefill_seconds", "answer_token_seconds")}
    )
    most = config.evaluation.max_new_tokens or spec.max_new_tokens
    trains = spec_of(config.method).build is not None
    # An untrained model may go on until it is stopped.
    longest = min(most, lengths.longest_answer) if trains else most
    low, high = (
        run_cost(
            together,
            steps=steps if trains else 0,
            validation_steps=training.validations * -(-held_out // batch) if trains else 0,
            answer_batches=answers / config.evaluation.batch_size,
            answer_tokens=count,
        )
        for count in (min(most, lengths.answer), longest)
    )
    whole = {
        name: Range(low=getattr(low, name).low, high=getattr(high, name).high) for name in RunCost.model_fields
    }
    return steps, RunCost(**whole)


class Costs:
    """The cost of one method on one model, by length; every length is predicted once."""

    def __init__(self, config: RunConfig, device: Device | None, online: bool) -> None:
        self.config, self.device = config, device
        # Dimensions that are shipped need no network; those of a folder are read.
        self.revision = None if shipped_model(config.model) is not None else config.model_revision
        self.engine: Engine = "packed"
        self.known: dict[tuple[int, int, bool], tuple[Prediction, StepCost | None]] = {}
        self.problem: str | None = None
        try:
            if not online and _only_on_hub(config.model, self.revision):
                raise ConfigError(
                    f"the dimensions of {config.model!r} are not here; pass --online to read its config.json from "
                    "the hub, or give the folder of a copy"
                )
            self.context, self.estimated = _context(config.model, self.revision)
            self._predicted(LENGTHS[1], self.batch)
        except PeftBenchError as error:
            self.problem = str(error)

    @property
    def batch(self) -> int:
        """Samples in one pass."""
        whole = self.config.training.batch_size
        return min(self.config.engine.micro_batch_size or whole, whole)

    @cached_property
    def virtual_tokens(self) -> int:
        """Tokens that the method puts into the context."""
        settings = self.config.method.settings_for(spec_of(self.config.method))
        return int(getattr(settings, "virtual_tokens", 0))

    def limit(self, config: RunConfig) -> int:
        """Most tokens of a sample, virtual ones among them."""
        return min(config.training.max_tokens, self.context or config.training.max_tokens)

    def shares(self, config: RunConfig) -> bool:
        """Whether what all samples begin with is computed once a step."""
        if config.engine.shared_prefix != "auto":
            return config.engine.shared_prefix == "always"
        settings = config.method.settings_for(spec_of(config.method)).model_dump()
        return self.engine == "packed" and not any(
            name.endswith("dropout") and value for name, value in settings.items()
        )

    def at(self, tokens: float) -> tuple[Prediction, StepCost | None]:
        """The prediction at the next length below, and the cost on the device in between lengths."""
        low, high, share = _between(tokens)
        near, cost = self._predicted(low, self.batch)
        far = self._predicted(high, self.batch)[1]
        return near, None if cost is None or far is None else cost.toward(far, share)

    def memory(self, tokens: int) -> tuple[int, bool | None, bool]:
        """Peak of a training step in bytes, whether it fits, and whether only in several passes."""
        peak = self._peak(tokens, self.batch)
        if self.room is None:
            return peak, None, False
        if peak <= self.room or self.batch == 1:
            return peak, peak <= self.room, False
        split = self._peak(tokens, 1) <= self.room
        return peak, split, split

    def too_large(self, tokens: int) -> str:
        """Why samples of this length do not fit, and what may help."""
        assert self.device is not None
        assert self.room is not None
        where = f"{self.device.title} has {self.room / 1e9:.1f} GB beside what it needs itself"
        prediction = self.at(tokens)[0]
        weights = prediction.base_bytes
        if weights > self.room:
            help_ = "take a smaller model or a larger device"
            return f"the weights alone take {weights / 1e9:.1f} GB, and {where}; {help_}"
        again = self._peak(tokens, 1, again=True)
        help_ = "take a smaller model, fewer training.max_tokens or a larger device"
        if again <= self.room and not self.config.engine.gradient_checkpointing:
            help_ = f"set engine.gradient_checkpointing=true, with which about {again / 1e9:.1f} GB suffice"
        return f"one sample takes about {self._peak(tokens, 1) / 1e9:.1f} GB, and {where}; {help_}"

    @property
    def room(self) -> int | None:
        """Bytes for tensors on the device; None where that is not known."""
        if self.device is None or self.device.memory_bytes is None:
            return None
        return self.device.memory_bytes - CONTEXT_BYTES

    def _peak(self, tokens: int, batch: int, *, again: bool = False) -> int:
        low, high, share = _between(tokens)
        below, above = (self._predicted(length, batch, again=again)[0] for length in (low, high))
        near, far = below.peak_train_memory_bytes, above.peak_train_memory_bytes
        if near is None or far is None:  # the base model, which is only loaded
            return below.base_bytes
        return round(near + (far - near) * share)

    def _predicted(self, tokens: int, batch: int, *, again: bool = False) -> tuple[Prediction, StepCost | None]:
        key = (tokens, batch, again or self.config.engine.gradient_checkpointing)
        if key not in self.known:
            try:
                found = self._predict(*key)
            except ConfigError as error:
                if self.engine == "padded" or "cannot be packed" not in str(error):
                    raise
                self.engine = "padded"
                found = self._predict(*key)
            slim = found.model_copy(update={"memory_timeline": ()})
            self.known[key] = (slim, roofline(found, self.device) if self.device is not None else None)
        return self.known[key]

    def _predict(self, tokens: int, batch: int, again: bool) -> Prediction:
        cpu = self.device is not None and self.device.kind == "cpu"
        dtype = self.config.dtype
        return predict(
            self.config.model,
            self.revision,
            self.config.method,
            batch=batch,
            tokens=tokens,
            dtype=dtype if dtype != "auto" else ("float32" if cpu else "bfloat16"),
            quantization=self.config.quantization,
            engine=self.engine,
            gradient_checkpointing=again,
            kernels="cpu" if cpu else "fused",
        )


def _between(tokens: float) -> tuple[int, int, float]:
    """The predicted lengths around a length, and how far it is from the lower to the higher, 0 to 1.

    Beyond the longest it is that one.
    """
    low = max((each for each in LENGTHS if each <= tokens), default=LENGTHS[0])
    high = min((each for each in LENGTHS if each >= tokens), default=LENGTHS[-1])
    return low, high, 0.0 if high == low else (min(tokens, high) - low) / (high - low)


def _only_on_hub(model: str, revision: str | None) -> bool:
    """Whether what is to be known of a model would have to be asked of the hub."""
    here = Path(located(model)).exists() or shipped_model(model) is not None or model.count("/") != 1
    return not here and not in_cache(model, revision)


def _context(model: str, revision: str | None) -> tuple[int | None, bool]:
    """Longest input of a model, and whether its dimensions are those shipped here."""
    config, estimated = config_of(model, revision)
    return getattr(config.get_text_config(), "max_position_embeddings", None), estimated
