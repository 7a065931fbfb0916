import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.dashboards.programs import require

ROOT = Path(__file__).parents[3]
OPERATOR = "operator-token"
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Stage:
    """The console's process, and the way to tell its source what the world looks like."""

    def __init__(self, process):
        self._process = process
        self.url = json.loads(process.stdout.readline())["url"]

    def tell(self, **command):
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())["calls"]


@contextlib.contextmanager
def staged():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # noqa: TID251  # a child process inherits what the test run has
    program = [sys.executable, "-m", "tests.cluster.console.stage"]
    with subprocess.Popen(
        program, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Stage(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def shared_stage():
    require("chromium")
    with staged() as stage:
        yield stage


@pytest.fixture
def stage(shared_stage):
    shared_stage.tell(reset=True)
    return shared_stage


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=require("chromium"), headless=True, args=list(CHROMIUM))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(stage, browser):
    """Sign in and open a view; every error in the browser's log fails the test."""
    faults, contexts = [], []

    def opened(view="", token=OPERATOR, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{stage.url}/login")
        page.fill("[name=token]", token)
        page.click("button[type=submit]")
        page.wait_for_selector("#at-bar nav")
        if view:
            page.goto(f"{stage.url}/{view}")
            page.wait_for_selector("#at-bar nav")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
