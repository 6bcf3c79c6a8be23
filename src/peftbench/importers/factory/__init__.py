"""Configurations and dataset descriptions of LLaMA-Factory and PEFT-Factory, turned into ours.

`config` converts the one, `datasets` the other; what cannot be expressed is said and never lost on the quiet.
"""
