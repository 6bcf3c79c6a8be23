"""A process that checks one method and writes what it finds, line by line, into a file.

    python -m peftbench.testing.child METHOD SETTINGS FILE

It is a process of its own so that a method that loops, exits or prints harms nothing. SETTINGS is a list of
`key=value` as JSON. Each line of FILE is an object with `stage`, or one finding.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Check the method that the arguments name."""
    name, settings, file = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    with file.open("a", encoding="utf-8") as out:

        def tell(**line: Any) -> None:
            out.write(json.dumps(line) + "\n")
            out.flush()

        from peftbench.errors import PeftBenchError
        from peftbench.outside import PRINTED_TO
        from peftbench.testing import promises

        PRINTED_TO.set(sys.stdout)  # which is kept for a note
        tell(stage="ready")
        from peftbench.config import checked_settings
        from peftbench.methods.plugins import spec_named
        from peftbench.testing.trial import tiny_settings

        spec = None
        try:
            spec = spec_named(name)
            chosen = checked_settings(spec, settings) if settings or spec.code else tiny_settings(spec)
        except PeftBenchError as error:
            tell(stage="refused", why=str(error), settings=spec is not None)
            return
        code = spec.code.model_dump() if spec.code else None
        tell(stage="loaded", method=spec.name, code=code)
        for finding in promises.findings(spec, chosen, lambda doing: tell(stage="checking", doing=doing)):
            tell(stage="found", **finding)
        tell(stage="checking", doing="building it on models of other families")
        tell(stage="done", families=promises.families(spec, chosen))


if __name__ == "__main__":
    main()
