"""A run: what was asked for, and what came out of it.

`RunConfig` is the two configuration files in one model; its defaults are section 4 of the paper. The records
are what is written beside a run and never changed after; their files hold a hash of themselves as well. No
behaviour here beyond checks of values.
"""

from typing import Annotated, Literal

from pydantic import Field

from peftbench.kinds import Commit, Device, Dtype, Name, Positive, Project, Trackers
from peftbench.schema import DataFacts, Frozen, MethodChoice, Protocol, Quantization

RECORD_VERSION = 1
"""Raised when a field of a record changes its meaning."""


class DataConfig(Frozen):
    """Which rows a run uses."""

    directory: Name | None = None
    """Folder with `<dataset>/<split>.{parquet,jsonl,jsonl.gz}`; None takes the hub."""
    prompts: Name | None = None
    """Prompt pack of `peftbench import datasets`, for `protocol: published`; None takes our prompts."""
    allow_partial: bool = False
    """Accept fewer rows than Table 4 counts; the record says so."""
    train_rows: Positive | None = None
    """A seeded sample of so many training rows, validation included; None takes all."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the validation split and of row samples; the same for all runs that are to be compared."""


class TrainingConfig(Frozen):
    """How an adapter is trained: section 4 of the paper."""

    epochs: Positive = 10
    batch_size: Positive = 4
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the learning rate rises; a cosine to zero follows."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    validations: Positive = 20
    """Validations spread evenly over training; the weights of the lowest loss are kept."""
    max_tokens: Positive = 2048
    """Most tokens of prompt, answer and virtual tokens together; the model's context if that is shorter."""


SharedPrefix = Literal["auto", "never", "always"]


class EngineConfig(Frozen):
    """How a run is computed: what it costs, not what comes out of it. Not part of a run's id.

    One exception: `shared_prefix: always` where it is not exact is another training, and another id.
    """

    shared_prefix: SharedPrefix = "auto"
    """Compute what all samples begin with once a step: `auto` where that is exact, without dropout on it."""
    tokens_per_step: Positive | None = None
    """Runs are trained together up to so many tokens a step; None takes 1500 on a GPU, 256 on a CPU."""
    micro_batch_size: Positive | None = None
    """Samples in one pass; the gradient is that of the whole batch. None takes the batch, halved if it must."""
    gradient_checkpointing: bool = False
    """Compute each layer's activations again instead of keeping them: less memory, a third more time."""
    processes: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Processes, each with a GPU of its own, that hold the base in shares; None takes one, or torchrun's."""


class EvaluationConfig(Frozen):
    """How a trained adapter is evaluated; the second configuration file."""

    run: Name | None = None
    """Folder of a trained run, for `peftbench eval`; elsewhere the run is the one just trained."""
    test_rows: Positive | None = None
    """A seeded sample of so many test rows; None takes all."""
    max_new_tokens: Positive | None = None
    """Most tokens of an answer; None takes the dataset's own limit."""
    batch_size: Positive = 64
    """Prompts at a time, halved where they do not fit; answers do not depend on it."""


TINY = "peftbench-tiny"
"""The model that the package ships, called by name alone."""


class RunConfig(Frozen):
    """One run: a model, a dataset, a method, a seed, and how to train and evaluate."""

    model: Name
    """Folder of a Hugging Face model, or its hub id."""
    model_revision: Commit | None = None
    """Commit of the hub model, 40 hexadecimal digits; needed with a hub id. A branch or tag could move."""
    dataset: Name
    """Name of a dataset, or the path of the YAML file of one's own; in records, one's own have a full name."""
    dataset_file: Name | None = None
    """Where the entry of a dataset of one's own lies; taken from `dataset`."""
    method: MethodChoice
    seed: Annotated[int, Field(ge=0)] = 42
    """Seed of initial values, data order and dropout."""
    protocol: Protocol = "corrected"
    """`published` gives the reference implementation's rules back, where they are known."""
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    engine: EngineConfig = EngineConfig()
    device: Device = "auto"
    dtype: Dtype = "auto"
    """Precision of the frozen base; adapters are trained in float32."""
    quantization: Quantization | None = None
    """How the base's projections are kept, by bitsandbytes; `dtype` is what they are computed in."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads; None leaves them to torch. A run goes on only with the number it began with."""
    output: Name = "runs"
    """Folder of all runs."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of a finished run."""
    tracking: Trackers = ()
    """Trackers that are given a copy of what `peftbench.mirrors` lists; not part of an id and in no record."""
    tracking_project: Project = "peftbench"
    """Project, or experiment, of the runs in a tracker."""
    evaluation: EvaluationConfig = EvaluationConfig()


class CurvePoint(Frozen):
    """What was seen at one validation."""

    step: int
    epoch: float
    learning_rate: float
    train_loss: float
    """Mean of the step losses since the point before."""
    validation_loss: float | None
    """Mean over all answer tokens of the validation rows; decides which weights are kept."""
    validation_loss_of_batches: float | None
    """Mean of the means of consecutive batches, by their rows: what Hugging Face Trainer reports."""
    grad_norm: float
    """Largest gradient norm before clipping since the point before."""
    peak_memory_bytes: int | None
    """Largest memory in use since the point before, by all runs that shared the pass."""
    seconds: float
    """Training time so far, validation included; of what several runs did together an equal share."""


class Failure(Frozen):
    """Why a run ended without a result."""

    reason: Literal["nonfinite", "out_of_memory", "metric"]
    message: str
    step: int | None


class Provenance(Frozen):
    """What a number was made with."""

    peftbench: str
    commit: str | None
    """Commit of the source tree, with `+dirty` behind it if files were changed; None outside a checkout."""
    python: str
    platform: str
    packages: dict[str, str]
    device: str
    threads: int
    started_at: str
    """UTC, ISO 8601."""


class ModelFacts(Frozen):
    """The base model of a run."""

    name: str
    fingerprint: str
    """Hub id and revision, or a hash over the files of a folder."""
    family: str
    dtype: str
    quantization: Quantization | None = None
    """How the projections are kept; None where in `dtype`."""
    parameters: int
    context_tokens: int | None
    padded_because: str | None = None
    """Why samples were padded and not packed; None where they were packed."""
    chat_template: bool
    """Whether the tokenizer has one; a plain template is used otherwise."""

    @property
    def label(self) -> str:
        """The name, with how the projections are kept where that is not in `dtype`, for that is another model."""
        return self.name if self.quantization is None else f"{self.name} ({self.quantization})"

    @property
    def precision(self) -> str:
        """What the base is computed in, and what it is kept in where that differs, for people."""
        return self.dtype if self.quantization is None else f"{self.quantization} in {self.dtype}"


class EfficiencyProfile(Frozen):
    """What a part of a run took on its device: training in its record, evaluation in that of the evaluation.

    None stands for what was not part of it or cannot be measured there; of runs that shared passes memory and
    energy cannot be told apart.
    """

    device: str
    """What the figures were measured on: the name of a GPU, or `cpu`."""
    memory_kind: Literal["cuda allocated", "process resident"] | None
    """What a peak is: bytes of live tensors on a GPU, or resident bytes of the process, libraries included."""
    train_peak_memory_bytes: int | None = None
    """Largest memory during training steps, validation left out."""
    train_peak_reserved_bytes: int | None = None
    """Largest memory that torch's allocator held during training steps, in use or not; CUDA alone."""
    train_seconds: float | None = None
    """Wall time of training steps, validation left out; of passes with other runs an equal share."""
    validation_seconds: float | None = None
    """Wall time of validation and checkpoints."""
    train_tokens_per_second: float | None = None
    """Prompt and answer tokens of the rows learned from, however packed or shared, by `train_seconds`."""
    adapter_bytes: int | None = None
    """Size of the file of the stored weights."""
    evaluation_peak_memory_bytes: int | None = None
    """Largest memory while answers were generated."""
    evaluation_peak_reserved_bytes: int | None = None
    """Largest memory that torch's allocator held while answers were generated; CUDA alone."""
    generation_seconds: float | None = None
    """Wall time of all answers, prompts included; without loading and scoring."""
    generated_tokens_per_second: float | None = None
    """Answer tokens, those that end an answer not among them, by `generation_seconds`."""
    latency_prompt_tokens: int | None = None
    """Length of the one prompt of middle length that the four latencies are of; batch 1, medians."""
    first_token_seconds: float | None = None
    """From the prompt to its first answer token, with the adapter attached; nothing shared beforehand."""
    next_token_seconds: float | None = None
    """Each further token, with the adapter attached."""
    merged_first_token_seconds: float | None = None
    """The same for a merged adapter, None if it cannot be merged: the time of the base model, equal in shape."""
    merged_next_token_seconds: float | None = None
    """Each further token with a merged adapter."""
    energy_joules: float | None = None
    """Energy of the machine's processor, memory and GPUs over this part, by codecarbon; None without it, or if the
    part was stopped in between."""
    energy_source: Literal["measured", "estimated"] | None = None
    """Whether counters of the processor were read, or its power was estimated from its type."""


class TokenFacts(Frozen):
    """What the token limit did to the rows of one split."""

    rows: int
    cut_rows: int
    dropped_rows: int
    longest_tokens: int
    """Prompt and answer of the longest row."""
    limit_tokens: int
    """What was allowed for prompt and answer, virtual tokens taken off."""


class TrainRecord(Frozen):
    """`train.json`: a finished training. There is none for the base model."""

    record_version: int = RECORD_VERSION
    train_id: str
    status: Literal["done", "failed"]
    failure: Failure | None = None
    config: RunConfig
    model: ModelFacts
    data: DataFacts
    tokens: dict[Literal["train", "validation"], TokenFacts]
    trainable_params: int
    trainable_dtype: str
    adapter_params: int | None
    """Parameters stored for use; fewer than trained where an encoder is dropped."""
    adapter_bytes: int | None
    adapter_sha256: str | None = None
    """Hash of the file of the stored weights."""
    adapter_config_sha256: str | None = None
    """Hash of `adapter_config.json` beside them; None in records of earlier versions."""
    shared_prefix_tokens: int
    """Tokens at the head of each row that were computed once for all its samples; 0 where none were."""
    shared_prefix_exact: bool = True
    """False if they were shared although dropout makes that another procedure (`shared_prefix: always`)."""
    passes_per_step: int = 1
    """Into how many passes a step was split, at most; more than asked for where memory ran out."""
    group_size: int = 1
    """Most runs that shared a pass with this one, itself included."""
    steps: int
    best_step: int | None
    best_validation_loss: float | None
    resumed: int = 0
    """How often the run was stopped and went on."""
    peak_memory_bytes: int | None
    """Largest memory in use; None where it is not known, or was that of several runs."""
    memory_kind: Literal["cuda allocated", "process resident"] | None
    seconds: float
    provenance: Provenance
    efficiency: EfficiencyProfile | None = None
    """None in records of earlier versions."""


class Scores(Frozen):
    """The scores of one set of predictions under one scoring rule, all on 0 to 100."""

    primary: float
    values: dict[str, float]
    """Every score by name, `primary` among them."""
    absent_classes: tuple[str, ...] = ()
    """Labels with neither gold nor prediction, left out of a macro average."""
    scored_rows: int
    unscored_rows: int
    """Rows without a gold answer: predicted and counted, not scored."""


class EvalRecord(Frozen):
    """`result.json`: the evaluation of one trained adapter or of the base model."""

    record_version: int = RECORD_VERSION
    eval_id: str
    train_id: str
    status: Literal["done", "failed"]
    failure: Failure | None = None
    config: RunConfig
    model: ModelFacts
    data: DataFacts
    tokens: TokenFacts
    scores: dict[Protocol, Scores]
    """Under both scoring rules, from the same predictions."""
    metric: str
    metric_version: int | None
    """None where outputs could not be scored, as for the two below."""
    invalid_rate: float | None
    """Share of the scored outputs, 0 to 1, that are no answer of the required form."""
    top_output_share: float | None
    """Share of the most frequent output: near 1 where a model gives one answer to everything."""
    hit_limit_rate: float
    """Share of outputs that ended only at `max_new_tokens`."""
    max_new_tokens: int
    predictions_sha256: str | None = None
    """Hash of the file of predictions; None in records of earlier versions."""
    peak_memory_bytes: int | None
    seconds: float
    provenance: Provenance
    efficiency: EfficiencyProfile | None = None
    """None in records of earlier versions."""


class RunResult(Frozen):
    """A finished run: its folder and its records."""

    folder: str
    config: RunConfig
    train: TrainRecord | None
    """None for the base model, which is not trained."""
    evaluation: EvalRecord | None

    @property
    def status(self) -> Literal["done", "failed"]:
        """`done` if every part that was asked for is."""
        records = (self.train, self.evaluation)
        return "failed" if any(record is not None and record.status == "failed" for record in records) else "done"

    @property
    def primary(self) -> float | None:
        """The primary score under the run's own protocol."""
        if self.evaluation is None or self.evaluation.status == "failed":
            return None
        return self.evaluation.scores[self.config.protocol].primary
