"""What the tables of the paper are about: their datasets in order, with the paper's short names, and captions.

Captions are in our words. Nothing is computed here.
"""

from peftbench.datasets import get_dataset
from peftbench.errors import UnknownName
from peftbench.methods.specs import methods

GROUPS: dict[str, dict[str, str]] = {
    "GLUE": {
        "mnli": "MNLI",
        "qqp": "QQP",
        "qnli": "QNLI",
        "sst2": "SST-2",
        "stsb": "STS-B",
        "mrpc": "MRPC",
        "rte": "RTE",
        "cola": "CoLA",
    },
    "SuperGLUE": {
        "record": "ReC",
        "multirc": "MRC",
        "boolq": "BQ",
        "wic": "WiC",
        "wsc": "WSC",
        "cb": "CB",
        "copa": "COPA",
    },
    "Others": {
        "mmlu": "MMLU",
        "piqa": "PIQA",
        "siqa": "SIQA",
        "hellaswag": "HS",
        "winogrande": "WG",
        "openbookqa": "OBQA",
    },
    "Math": {"math_qa": "MQA", "gsm8k": "GSM8K", "svamp": "SVAMP"},
    "Code Generation": {"conala": "CoNaLa", "codealpacapy": "CAPy", "apps": "APPS"},
}
"""Headings of Tables 1 and 2 with their datasets and how the paper shortens these, in its order."""
TABLES = {"1": ("GLUE", "SuperGLUE"), "2": ("Others", "Math", "Code Generation")}
"""Which headings stand in which table."""
STABILITY = ("cb", "copa", "svamp", "cola", "sst2", "hellaswag", "wsc")
"""Datasets of the stability experiments, Figure 4 and Table 11."""
SLICES = {
    "9": ((0.5, 1, 1), (1, 0.5, 1), (1, 1, 0.5), (2, 1, 1), (1, 2, 1), (1, 1, 2)),
    "10": ((1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)),
}
"""Importances of parameters, FLOPs and memory in the parts of Tables 9 and 10."""
CAPTIONS = {
    "1": "Scores on the datasets of GLUE and SuperGLUE, with the trainable parameters of each method.",
    "2": "Scores on other datasets of reasoning, on mathematics and on code generation, with the trainable "
    "parameters of each method.",
    "3": "PSCP of each method: its mean score P under penalties for trainable parameters, extra FLOPs and memory.",
    "9": "PSCP where one of the three costs matters half as much, or twice as much, as the others.",
    "10": "PSCP where all three costs matter alike, from as in Table 3 to four times as much.",
    "11": "Scores with their standard deviation over seeds: the numbers of Figure 4.",
    "leaderboard": "Mean scores of all methods over groups of datasets and over all of them.",
}
TITLES = {name: f"Table {name}" if name.isdecimal() else name.capitalize() for name in CAPTIONS}
_METRICS = {
    "macro_f1": "F1",
    "token_f1": "F1",
    "pearson": "Pearson",
    "codebleu": "CodeBLEU",
    "last_number": "accuracy",
    "equation_answer": "accuracy",
}
_METHODS = ("base", "ia3", "prompt_tuning", "prefix_tuning", "p_tuning", "lora", "ln_tuning")
"""The paper's order of rows."""
_TITLES = {"ln_tuning": "LNTuning"}  # as the paper writes it


def entry(dataset: str) -> str:
    """The catalogue entry of a dataset: `sst2` for `sst2@mini`."""
    return dataset.partition("@")[0]


def label(dataset: str) -> str:
    """The paper's short name of a dataset, and the name itself where it has none; a variant keeps its ending."""
    name, at, variant = dataset.partition("@")
    short = next((names[name] for names in GROUPS.values() if name in names), name)
    return f"{short} {at}{variant}".strip()


def group_of(dataset: str) -> str:
    """The heading that a dataset stands under; one that the paper does not have goes by its area."""
    name = entry(dataset)
    for group, names in GROUPS.items():
        if name in names:
            return group
    try:
        spec = get_dataset(dataset)
    except UnknownName:
        return "Others"
    if spec.benchmark in ("GLUE", "SuperGLUE"):
        return spec.benchmark
    return {"math": "Math", "code generation": "Code Generation"}.get(spec.area, "Others")


def metric_of(dataset: str) -> str:
    """What a dataset's score is called in a heading; empty where the dataset is not known any more."""
    try:
        metric = get_dataset(dataset).metric
    except UnknownName:
        return ""
    return _METRICS.get(metric, metric)


def dataset_order(dataset: str) -> tuple[int, str]:
    """Sorts datasets as the paper has them, others behind those of their heading."""
    order = [name for names in GROUPS.values() for name in names]
    name = entry(dataset)
    if name in order:
        return order.index(name), dataset
    return max(order.index(each) for each in GROUPS[group_of(dataset)]), f"~{dataset}"


def method_order(name: str) -> tuple[int, str]:
    """Sorts methods as the paper has them, others by name behind."""
    plain = name.partition("(")[0]
    return (_METHODS.index(plain) if plain in _METHODS else len(_METHODS), name)


def method_title(name: str) -> str:
    """A method's name in the paper, with the settings that `name` has."""
    plain, bracket, settings = name.partition("(")
    title = _TITLES.get(plain) or (spec.title if (spec := methods.known(plain)) else plain)
    return f"{title} {bracket}{settings}".strip()
