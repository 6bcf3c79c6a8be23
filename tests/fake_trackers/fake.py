"""What the stand-ins for trackers do alike: write down all that they are given, chatter, and misbehave when told to."""

import json
import os
import sys
import time
from pathlib import Path


def heard(tracker, what, **given):
    """Write down one call; `FAKE` is `<what>=<misdeed>`, such as `log=raise`."""
    with Path(os.environ["FAKE_LOG"]).open("a") as file:
        file.write(
            json.dumps({"tracker": tracker, "what": what, "variables": sorted(os.environ), **given}, default=str)
            + "\n"
        )
    # The secrets first, before whatever a message may be cut after.
    names = sorted(os.environ, key=lambda name: not name.endswith(("_KEY", "_TOKEN", "_PASSWORD", "_URI")))
    known = Path(os.environ.get("NETRC", os.devnull)).read_text().replace("\n", " ")
    everything = " ".join([known, *(os.environ[name] for name in names)])
    print("to standard output:", everything)
    print("to standard error:", everything, file=sys.stderr)
    when, _, misdeed = os.environ.get("FAKE", "").partition("=")
    if when != what:
        return
    if misdeed == "raise":
        raise ConnectionError(f"no answer to {everything}\nand a second line")
    if misdeed == "exit":
        sys.exit(f"gave up {everything}")
    if misdeed == "die":
        os._exit(3)
    if misdeed == "hang":
        time.sleep(1000)
    if misdeed == "slow":
        time.sleep(0.05)
