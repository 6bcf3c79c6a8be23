"""The 27 datasets of the benchmark: what they are, where their rows lie and how a row becomes an example.

`get_dataset` gives a catalogue entry, `load_dataset` its prepared rows from the Hugging Face hub, a directory or
Python. What a model makes of them, and how its answers are scored, is the business of other packages.
"""

from peftbench.datasets.catalog import add_dataset, dataset_given, dataset_names, get_dataset, read_spec
from peftbench.datasets.examples import example_of
from peftbench.datasets.load import PreparedDataset, load_dataset

__all__ = [
    "PreparedDataset",
    "add_dataset",
    "dataset_given",
    "dataset_names",
    "example_of",
    "get_dataset",
    "load_dataset",
    "read_spec",
]
