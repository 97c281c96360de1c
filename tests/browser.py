"""A real browser for tests of pages, and where pictures of these go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser(require: Callable[[object, str], None]) -> Iterator[Any]:
    """The system's Chromium. A module's own: while it is there, the thread has a running event loop."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    require(found, "Chromium is not installed")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def keep_screenshot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any, str], None]:
    """Keep a picture of a page, in the folder BELFRY_SCREENSHOTS or among pytest's own."""
    folder = Path(os.environ.get("BELFRY_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))

    def keep(page: Any, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        page.evaluate("scrollTo(0, 0)")  # or what stays at the top lies in the middle of the picture
        page.screenshot(path=str(folder / f"{name}.png"), full_page=True)

    return keep
