"""The promises of the contract in words: what is expected, whether a method claims it, and how one mends it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from peftbench.errors import ConfigError
from peftbench.methods import build_adapter
from peftbench.outside import told
from peftbench.schema import Frozen, MethodSpec, Quantization
from peftbench.testing import contract
from peftbench.testing.contract import BrokenPromise
from peftbench.testing.models import FAMILIES, tiny_model
from peftbench.testing.trial import Trial, tiny_settings

Check = Callable[[Trial], None]
Finding = dict[str, str | None]
"""`promise`, `status` (kept, broken, not claimed, not checked), `expected`, `found` and `mend` of one promise."""


@dataclass(frozen=True)
class Promise:
    """One promise: the check that finds it broken, and its words."""

    check: Check
    expected: str
    mend: str
    claims: Callable[[Trial], bool] = lambda _: True
    """Whether the method makes it at all."""
    claim: str = ""
    """How a method would claim it."""


PROMISES = (
    Promise(
        contract.trains_some_parameters,
        "some parameters are trained, but fewer than the model has",
        "let the modules hold what is new in nn.Parameter, at settings that fit a model 32 wide; a method that "
        'trains the base itself says category="reference"',
    ),
    Promise(
        contract.trains_in_float32,
        "what is trained is float32, also beside a bfloat16 base",
        "make tensors by Additions or Adapter.add, which keep float32, and cast only what goes into the base",
    ),
    Promise(
        contract.counts_by_its_formula,
        "the formula of the parameters gives the number that is trained",
        "mend `parameters` in the MethodSpec, or build what it says",
        lambda trial: trial.spec.parameters is not None,
        "parameters=lambda config, settings: ...",
    ),
    Promise(
        contract.counts_without_weights,
        "parameters are counted on a model without weights, for predictions of cost",
        "let shapes depend on the configuration and the settings, not on values",
    ),
    Promise(
        contract.gradients_reach_every_tensor,
        "the loss has a gradient in every trained tensor, and in none of the base",
        "use each parameter in what the module gives; no detach(), no .data, no torch.no_grad()",
    ),
    Promise(
        contract.begins_as_the_base_if_it_says_so,
        "before the first step the model says what the base says",
        "begin the last factor at zero (or the scale at one), or set identity_at_start=False",
        lambda trial: trial.spec.identity_at_start,
        "identity_at_start=True",
    ),
    Promise(
        contract.changes_what_the_model_says,
        "other values give other answers",
        "let the module's output depend on its parameters",
    ),
    Promise(
        contract.begins_by_its_seed,
        "built twice with one seed it has the same values",
        "draw from torch's, numpy's or random's global stream, which belong to the run's seed while it is built",
    ),
    Promise(
        contract.learns_a_toy_task,
        "the loss falls on eight samples seen eight times",
        "look at the sign of a penalty, at scales, and at the start: two factors of zero never move",
    ),
    Promise(
        contract.leaves_the_base_alone,
        "no weight of the base is changed and nothing is left on its modules",
        "copy a weight before it is changed: weight.detach().clone()",
    ),
    Promise(
        contract.resumes_exactly,
        "a training that is stopped and goes on ends with the same bits",
        "keep what a schedule remembers in buffers (register_buffer), not in attributes",
    ),
    Promise(
        contract.keeps_what_was_validated,
        "what a schedule remembers changes no answer",
        "let the schedule act on trained values in place; weights are kept of the best validation, its memory of "
        "the last step",
        lambda trial: bool(trial.trained[0].extra_state(0)),
        "an after_step, and buffers that it changes",
    ),
    Promise(
        contract.is_read_back,
        "a stored adapter that is loaded gives the same answers",
        "keep all that matters in parameters and buffers, and make their shapes from the settings",
    ),
    Promise(
        contract.peft_reads_it,
        "Hugging Face PEFT reads the stored adapter",
        "store what PEFT's format means, or choose a format that PEFT does not have",
        contract.peft_has_its_format,
        "an `export` of your own in a format of PEFT",
    ),
    Promise(
        contract.one_pass_or_several_learn_the_same,
        "a step has the same gradients in one pass or two, with its beginning shared, with checkpointing",
        "compute each token from itself alone, and draw nothing but by nn.Dropout",
    ),
    Promise(
        contract.answers_alike_in_any_batch,
        "a sample's answer does not depend on its neighbours, packed or padded",
        "no mean, sum or norm over tokens",
    ),
    Promise(
        contract.merges_if_it_says_so,
        "merged into the weights it gives the same answers",
        "act on linear projections by linear maps alone, or set mergeable=False",
        lambda trial: trial.spec.mergeable,
        "mergeable=True",
    ),
    Promise(
        contract.trains_runs_together_if_it_says_so,
        "two runs in one pass are each what they are alone; with fuses=False two are refused",
        "share no tensor between builds, or set fuses=False",
    ),
)

METHOD_CONTRACT: tuple[Check, ...] = tuple(each.check for each in PROMISES)
"""What every method keeps; each raises `BrokenPromise` with a sentence."""


def broken_promises(
    spec: MethodSpec,
    settings: Frozen | None = None,
    quantization: Quantization | None = None,
    checks: Sequence[Check] = METHOD_CONTRACT,
) -> dict[str, str]:
    """What a method does not keep of the contract: a sentence by the name of the check."""
    trial = Trial(spec, tiny_settings(spec) if settings is None else settings, quantization)
    found = {check.__name__: sentence_of(check, trial) for check in checks}
    return {name: sentence for name, sentence in found.items() if sentence is not None}


def sentence_of(check: Check, trial: Trial) -> str | None:
    """What one check says against a method; None where it keeps its promise."""
    try:
        check(trial)
    except (BrokenPromise, ConfigError) as problem:
        return str(problem)
    except Exception as error:  # the method's own code, which may trip over anything
        return f"it ended with {told(error)}"
    return None


def findings(
    spec: MethodSpec, settings: Frozen, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Finding]:
    """What is found of each promise of a method, one after another; `tell` hears which comes next.

    A method that cannot be built breaks its first promise, and the others are not checked.
    """
    trial = Trial(spec, settings)
    tell("building it")
    try:
        trial.build()
    except Exception as error:
        said = isinstance(error, ConfigError)  # with the way to mend it
        found, mend = (str(error), None) if said else (f"it ended with {told(error)}", _MEND_BUILD)
        yield _finding("built", "broken", "it is built on a tiny Llama model", found, mend)
        for each in PROMISES:
            yield _finding(each.check.__name__, "not checked", each.expected)
        return
    yield _finding("built", "kept", "it is built on a tiny Llama model")
    causes: set[str | None] = set()
    for each in PROMISES:
        tell(each.expected)
        finding = _of(each, trial)
        if finding["status"] == "broken" and finding["mend"] is None and finding["found"] in causes:
            finding = _finding(each.check.__name__, "not checked", each.expected, "the same error")
        causes.add(finding["found"])
        yield finding


_MEND_BUILD = "build takes (model, settings) and gives Additions(around=..., soft_prompt=... or prefix=...)"


def _of(promise: Promise, trial: Trial) -> Finding:
    name = promise.check.__name__
    try:
        claimed = promise.claims(trial)
    except Exception:  # which the check itself will say
        claimed = True
    if not claimed:
        return _finding(name, "not claimed", promise.expected, mend=f"claimed by {promise.claim}")
    found = sentence_of(promise.check, trial)
    if found is None:
        return _finding(name, "kept", promise.expected)
    # An error of the method's code is mended there, whatever was being checked; it says so itself.
    raised = found.startswith(("method ", "it ended with "))
    return _finding(name, "broken", promise.expected, found, None if raised else promise.mend)


def _finding(name: str, status: str, expected: str, found: str | None = None, mend: str | None = None) -> Finding:
    return {"promise": name, "status": status, "expected": expected, "found": found, "mend": mend}


def families(spec: MethodSpec, settings: Frozen) -> dict[str, str | None]:
    """By family of models, why the method cannot be built on a tiny model of it; None where it can."""
    found: dict[str, str | None] = {}
    for family in FAMILIES:
        try:
            build_adapter(spec, tiny_model(family), settings, [1])
        except Exception as error:
            found[family] = str(error) if isinstance(error, ConfigError) else f"it ended with {told(error)}"
        else:
            found[family] = None
    return found
