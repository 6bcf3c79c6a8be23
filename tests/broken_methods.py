"""Methods that are broken on purpose, each one edit away from what `peftbench new method` writes.

python -m tests.broken_methods      runs `check method` on each and writes the table of docs/own-method.md
"""

import re
import tempfile
from importlib.resources import files
from pathlib import Path

from peftbench.methodcheck import Report, check_method

DOCS = Path(__file__).parents[1] / "docs" / "own-method.md"
BEGIN, END = "<!-- made by python -m tests.broken_methods -->\n", "<!-- end -->\n"

FORWARD = "return base(x) + self.up(self.down(x))"
ZERO = "nn.init.zeros_(self.up.weight)"
TARGETS = "targets = find_targets(model, settings.targets)\n"
RETURN = "return Additions(around={target: Change(target, settings.rank) for target in targets})"
SPEC = "method = MethodSpec("
SCHEDULED = """made = {target: Change(target, settings.rank) for target in targets}
    steps = []

    def shrink(_step: int) -> None:
        steps.append(1)
        for each in made.values():
            each.up.weight.mul_(1 - 0.01 * len(steps))

    return Additions(around=made, after_step=shrink)"""

BROKEN: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "raises": ("loaded", [(SPEC, f'raise RuntimeError("no such device")\n{SPEC}')]),
    "exits": ("loaded", [(SPEC, f"import sys\n\nprint('bye')\nsys.exit(0)\n{SPEC}")]),
    "loops": ("loaded", [(SPEC, f"while True:\n    pass\n{SPEC}")]),
    "takes_a_name": ("loaded", [('name="takes_a_name"', 'name="lora"')]),
    "trains_nothing": ("built", [(ZERO, f"{ZERO}\n        self.requires_grad_(False)")]),
    "trains_more_than_all": ("trains_some_parameters", [("rank: Count = 4", "rank: Count = 200")]),
    "trains_the_base": ("built", [(TARGETS, f"{TARGETS}    targets[0].module.weight.requires_grad_(True)\n")]),
    "changes_the_base": (
        "leaves_the_base_alone",
        [(TARGETS, f"{TARGETS}    targets[0].module.weight.data.mul_(0.9)\n")],
    ),
    "cuts_a_gradient": (
        "gradients_reach_every_tensor",
        [(FORWARD, "return base(x) + self.up(self.down(x).detach())")],
    ),
    "begins_elsewhere": ("begins_as_the_base_if_it_says_so", [(ZERO, "nn.init.ones_(self.up.weight)")]),
    "never_moves": ("learns_a_toy_task", [(ZERO, f"{ZERO}\n        nn.init.zeros_(self.down.weight)")]),
    "looks_at_neighbours": (
        "answers_alike_in_any_batch",
        [(FORWARD, "return base(x) + self.up(self.down(x - x.mean(0)))")],
    ),
    "is_not_linear": (
        "merges_if_it_says_so",
        [(FORWARD, "return base(x) + self.up(self.down(x).relu())")],
    ),
    "forgets_its_schedule": ("resumes_exactly", [(RETURN, SCHEDULED)]),
    "draws_on_its_own": (
        "begins_by_its_seed",
        [(ZERO, f"{ZERO}\n        self.down.weight.data.add_(__import__('os').urandom(1)[0] / 255 + 0.01)")],
    ),
    "counts_wrongly": (
        "counts_by_its_formula",
        [("mergeable=True,", "mergeable=True,\n    parameters=lambda config, settings: settings.rank * 100,")],
    ),
}
"""By name: the promise that it breaks, and the edits that break it."""
SHOWN = {"exits": "sys.exit(0)", "forgets_its_schedule": "each.up.weight.mul_(1 - 0.01 * len(steps))"}
"""What of an edit is shown, where that is not its first line."""


def write_broken(name: str, folder: Path) -> Path:
    """The file of a broken method."""
    text = files("peftbench").joinpath("templates", "method.txt").read_text(encoding="utf-8")
    text = text.replace("NAME", name).replace("TITLE", name)
    for old, new in BROKEN[name][1]:
        assert text.count(old) == 1, (name, old)
        text = text.replace(old, new)
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return file


def checked(name: str, folder: Path) -> Report:
    """What `check method` says of a broken method."""
    return check_method(str(write_broken(name, folder)), import_seconds=2 if name == "loops" else 60)


def row(name: str, report: Report) -> str:
    """A line of the table: what is broken, and the first thing that was said."""
    promise, edits = BROKEN[name]
    said = next(each for each in report.promises if each["promise"] == promise)
    found = re.sub(r"'[^']*/(\w+\.py)'", r"'\1'", said["found"] or "")
    mend = f" Mend: {said['mend']}." if said["mend"] else ""
    also = report.count("broken") - 1
    more = f" And {also} more promises are broken." if also else ""
    edit = edits[0][1].replace(edits[0][0], "").strip() or edits[0][1]
    shown = SHOWN.get(name) or " ".join(edit.split("\n")[0].split())
    return f"| `{name}` | `{shown}` | {said['expected']} | {found}.{mend}{more} |"


def table() -> str:
    """All of them, as docs/own-method.md has them."""
    lines = ["| method | edit | expected | found |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        lines += [row(name, checked(name, Path(folder))) for name in BROKEN]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    DOCS.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
