"""Measure the console with as many devices and claims as it promises to bear; print the figures.

Run as ``python -m tests.cluster.console.measure``: needs Chromium.
"""

import statistics
import sys
import time

from playwright.sync_api import sync_playwright

from tests.cluster.console.conftest import CHROMIUM, staged

ROUNDS = 7
PAINT = "performance.getEntriesByType('paint').find(each => each.name === 'first-contentful-paint').startTime"
TILES = """() => {
  window.shownAt = null;
  const look = () => {
    if (document.querySelectorAll('.gpu').length >= 1000) window.shownAt = performance.now();
    else requestAnimationFrame(look);
  };
  look();
}"""


def main():
    """Print first paint, the moment at which all devices are drawn, and the lag of a change."""
    with staged() as stage, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path="/usr/bin/chromium", headless=True, args=list(CHROMIUM))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{stage.url}/login")
        page.fill("[name=token]", "operator-token")
        page.click("button[type=submit]")
        page.wait_for_selector("#at-bar nav")
        stage.tell(kind="crowd")
        page.add_init_script(f"({TILES})()")
        paints, maps = [], []
        for _ in range(ROUNDS):
            page.goto(f"{stage.url}/cluster")
            page.wait_for_function("window.shownAt !== null", timeout=30_000)
            paints.append(page.evaluate(PAINT))
            maps.append(page.evaluate("window.shownAt"))
        lags = [lag(stage, page, number) for number in range(ROUNDS)]
        browser.close()
    report("first contentful paint, ms", paints)
    report("1,000 devices drawn, ms", maps)
    report("change shown after, ms", lags)


def lag(stage, page, number):
    """Return the time from a change at the source to its sight in the browser."""
    begun = time.monotonic()
    stage.tell(entry=f"measured-{number}")
    page.wait_for_selector(f"text=measured-{number}", timeout=30_000)
    return (time.monotonic() - begun) * 1000


def report(name, values):
    """Print the smallest, the median and the largest."""
    figures = (min(values), statistics.median(values), max(values))
    sys.stdout.write(f"{name}: least {figures[0]:.0f}, median {figures[1]:.0f}, most {figures[2]:.0f}\n")


if __name__ == "__main__":
    main()
