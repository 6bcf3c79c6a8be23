"""The first screen of a built page as a picture for the documentation: docs/page.png.

python tools/picture_of_page.py PAGE OUT.png    PAGE is a folder of `peftbench site build`; needs Chromium
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 800
MOST_BYTES = 150_000


def picture(page: Path, out: Path) -> None:
    """The leaderboard in light, down to the end of its table; refused above 150 kB."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(f"{(page.resolve() / 'index.html').as_uri()}#/leaderboard")
        tab.locator(".whisker").first.wait_for()
        end = tab.locator("main table").first.bounding_box()
        assert end is not None
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": end["y"] + end["height"] + 4}
        tab.screenshot(path=out, clip=clip, full_page=True)
        browser.close()
    if out.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{out} has {out.stat().st_size:,} bytes, at most {MOST_BYTES:,} are meant")


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
