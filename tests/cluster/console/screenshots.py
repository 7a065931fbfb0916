"""Draw the pictures of the documentation: ``python -m tests.cluster.console.screenshots FOLDER``; needs Chromium."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.cluster.console.conftest import CHROMIUM, staged

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PICTURES = (
    ("capacity", "operator-token", "?theme=light&lang=en", DESK),
    ("my-capacity-phone", "justice-key", "?theme=light&lang=fr", PHONE),
    ("models", "operator-token", "models?theme=light&lang=en", DESK),
    ("cluster", "operator-token", "cluster?theme=light&lang=en", DESK),
    ("cluster-dark-fr", "operator-token", "cluster?theme=dark&lang=fr", DESK),
)


def main(folder):
    """Write one PNG per picture into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with staged() as stage, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path="/usr/bin/chromium", headless=True, args=list(CHROMIUM))
        for name, token, path, size in PICTURES:
            page = browser.new_context(viewport=size, locale="en-GB").new_page()
            page.goto(f"{stage.url}/login")
            page.fill("[name=token]", token)
            page.click("button[type=submit]")
            page.wait_for_selector("#at-bar nav")
            page.goto(f"{stage.url}/{path}")
            page.wait_for_selector("section h2")
            if "cluster" in name:
                page.click("#gpu-GPU-n0-5")
                page.wait_for_selector("#at-detail dl")
            page.screenshot(path=folder / f"{name}.png", full_page=True)
            sys.stdout.write(f"{folder / name}.png\n")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
