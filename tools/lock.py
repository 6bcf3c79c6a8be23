"""Write `requirements.lock`: every package that `make` installs, pinned with hashes, all but torch.

Torch is installed first and apart, because its build differs by machine; the packages that only its CUDA builds
need come with it. Run by `make lock` after a change of dependencies; needs `uv` and a package registry.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("train", "figures", "query", "tensorboard", "slurm", "ray", "site", "docs", "dev")
WITH_TORCH = re.compile(r"^(torch|triton|nvidia-|cuda-)")


def main() -> None:
    """Resolve for all platforms and Python versions, and keep what does not come with torch.

    Pins of before stay where they still fit; without a `requirements.lock` the newest versions are taken.
    """
    lock = ROOT / "requirements.lock"
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / lock.name
        if lock.is_file():
            shutil.copy(lock, draft)
        command = ["uv", "pip", "compile", "pyproject.toml", "--output-file", str(draft)]
        command += [part for extra in EXTRAS for part in ("--extra", extra)]
        command += ["--universal", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        packages = re.split(r"\n(?=\S)", draft.read_text(encoding="utf-8").strip())
    kept = [package for package in packages if not WITH_TORCH.match(package)]
    lock.write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{lock.name}: {len(kept)} packages pinned")


if __name__ == "__main__":
    main()
