"""Write `requirements.lock`: every package that `make` installs, pinned with hashes, all but torch.

Torch is installed first and apart, because its build differs by machine; the packages that only its CUDA builds
need come with it. Run by `make lock` after a change of dependencies; needs `uv` and a package registry.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITH_TORCH = re.compile(r"^(torch|triton|nvidia-|cuda-)")


def main() -> None:
    """Resolve for all platforms and Python versions, and keep what does not come with torch."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "train", "--extra", "dev"]
    command += ["--universal", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    packages = re.split(r"\n(?=\S)", done.stdout.strip())
    kept = [package for package in packages if not WITH_TORCH.match(package)]
    (ROOT / "requirements.lock").write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"requirements.lock: {len(kept)} packages pinned")


if __name__ == "__main__":
    main()
