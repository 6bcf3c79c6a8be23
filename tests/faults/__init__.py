"""Faults on purpose: kills, failing disks, damaged files and many writers, against real tiny runs.

`make faults` runs all of it and prints a table; the quick part is `test_faults.py`. Each part is one module with a
function `run(world, quick, seed)` that gives lines of the table, and is named in `__main__.PARTS`.
"""
