"""The documentation as a site: it builds without a warning, and a browser that reads it asks no other server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Page, Request, Route, sync_playwright

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing of each request."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; what `make docs` builds, elsewhere."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [str(Path(sys.executable).parent / "mkdocs"), "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium is installed: the site is not opened")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def asked_elsewhere(page: Page, base: str, addresses: list[str]) -> list[str]:
    """Open pages and return the requests that would have left the site; they are stopped."""
    found: list[str] = []

    def look(route: Route, request: Request) -> None:
        if request.url.startswith((base, "data:", "blob:")):
            route.continue_()
        else:
            found.append(request.url)
            route.abort()

    page.route("**/*", look)
    for address in addresses:
        page.goto(base + address, wait_until="load")
    page.unroute("**/*", look)
    return found


def test_no_page_asks_another_server(site: Path, browser_page: Page) -> None:
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    assert {"index.html", "installing.html", "reference/client.html"} <= set(pages)
    errors: list[str] = []
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    with served(site) as base:
        assert asked_elsewhere(browser_page, base, pages) == []
        browser_page.goto(base + "reference/client.html")
        assert browser_page.get_by_role("heading", name="OfferClient", exact=False).first.is_visible()
    assert errors == []


def test_a_page_that_asks_another_server_is_found(browser_page: Page, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<img src="http://pictures.invalid/a.png"><script src="own.js"></script>')
    with served(tmp_path) as base:
        assert asked_elsewhere(browser_page, base, ["index.html"]) == ["http://pictures.invalid/a.png"]
