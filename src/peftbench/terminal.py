"""What every command does alike: errors of the user become one sentence, results are printed.

Loads nothing that takes time before it is needed.
"""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

DEBUG = ContextVar("debug", default=False)
"""Whether `--debug` was given."""


@contextmanager
def reported() -> Iterator[None]:
    """Errors that the user can mend become one sentence and an exit status."""
    from peftbench.errors import PeftBenchError

    try:
        yield
    except KeyboardInterrupt:
        complain("stopped; what was finished is kept, and the same command goes on from there")
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise  # whoever reads, such as `head`, has seen enough; typer ends without a word
    except Exception as error:
        if debugging():
            raise
        if isinstance(error, PeftBenchError):
            complain(str(error))
            raise SystemExit(error.exit_code) from None
        if isinstance(error, ModuleNotFoundError) and error.name in TRAINING_PACKAGES:
            complain(
                f"{error.name} is not installed; install what trains and predicts: pip install peftbench[train]"
            )
            raise SystemExit(2) from None
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            where = f"for {error.filename}" if error.filename else "where the output goes"
            complain(f"no space is left {where}; make room and give the same command; what was finished is kept")
            raise SystemExit(1) from None
        text = str(error).strip().split("\n")[0]
        complain(
            f"an error that it should have foreseen, {type(error).__name__}: {text}; what was finished is kept; "
            "`peftbench --debug` and the same command show where it came from, which is worth a report"
        )
        raise SystemExit(1) from None


def run_once(app: Callable[[], None]) -> None:
    """Run the command; of the processes of `torchrun` the first runs it, and the others do what it says."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        app()
        return
    if int(os.environ["RANK"]) > 0:
        from peftbench.follower import follow

        follow()
        return
    from peftbench.engine.processes import dismiss

    try:
        app()
    finally:
        dismiss()


TRAINING_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "datasets",
    "pyarrow",
)


def complain(text: str) -> None:
    """One line on standard error, without known secrets, control characters spelled out."""
    from peftbench.console import shown
    from peftbench.redaction import redacted

    print(shown(redacted(f"peftbench: {text}")), file=sys.stderr)


def debugging() -> bool:
    """Whether the command was given `--debug`."""
    return DEBUG.get()


def print_json(value: Any) -> None:
    """Plain data as JSON on standard output, without known secrets."""
    from peftbench.redaction import redacted_json

    print(redacted_json(json.dumps(value, indent=1, ensure_ascii=False)))


def print_pairs(pairs: dict[str, Any]) -> None:
    """Names and values, one a line, on standard output."""
    from peftbench.console import flat, shown

    for key, value in pairs.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for inner, item in value.items():
                print(f"  {inner}: {shown(flat(item))}")
        elif isinstance(value, str) and "\n" in value:
            print(f"{key}:")
            print("".join(f"  | {line}\n" for line in shown(value).splitlines()), end="")
        else:
            print(f"{key}: {shown(flat(value))}")
