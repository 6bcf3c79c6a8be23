"""What the file of a method of your own needs: `from peftbench.own import Additions, MethodSpec, ...`.

`peftbench new method NAME` writes such a file; docs/own-method.md explains it.
"""

from peftbench.engine.adapter import Heads, Target, find_norms, find_targets, heads_of
from peftbench.methods.additions import Additions, Base
from peftbench.methods.settings import Count, Share, Targets
from peftbench.schema import Frozen, MethodSpec

__all__ = [
    "Additions",
    "Base",
    "Count",
    "Frozen",
    "Heads",
    "MethodSpec",
    "Share",
    "Target",
    "Targets",
    "find_norms",
    "find_targets",
    "heads_of",
]
