"""`python -m peftbench` is the `peftbench` command."""

from peftbench.cli import main

main()
