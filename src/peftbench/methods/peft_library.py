"""Hugging Face PEFT, imported so that nothing is fetched on the way.

PEFT imports bitsandbytes where that is there, and it fetches code of a hub. This package has PEFT from here alone.
"""

from peftbench.outside import nothing_fetched

with nothing_fetched():
    import peft
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.incremental_pca import IncrementalPCA

__all__ = ["BaseTunerLayer", "IncrementalPCA", "peft"]
