"""Reports: the tables and figures of the paper from records, and model cards.

`sheet` gathers scores, `score_tables` and `cost_tables` make tables of them, `rendering` writes these as Markdown,
LaTeX, CSV or HTML, `drawing` draws figures, `folder` puts all of it into a folder with an index, `card` describes
one adapter, `paper` sets our rendering beside the paper's. No predictions are read but for intervals.
"""
