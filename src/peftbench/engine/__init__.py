"""Training and prediction on unmodified Hugging Face models: runs are rows of one token stream.

A step takes a stream of shape (runs, tokens): row k is the whole mini-batch of run k without padding between
samples. Adapters carry a leading run axis, so that several runs can share one pass over the frozen base.
"""
