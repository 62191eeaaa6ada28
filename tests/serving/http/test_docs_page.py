"""The page of the API: everything of the document, nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
from fastapi import FastAPI


class Page(HTMLParser):
    """What a page links to and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"href", "src", "action"}:
                self.links.append(value or "")
            if name == "id":
                self.ids.add(value or "")


def test_it_lists_every_route_parameter_and_field(api: httpx.Client, app: FastAPI) -> None:
    text = api.get("/docs").text
    document = app.openapi()
    for path, operations in document["paths"].items():
        assert path in text
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in text
    for name, schema in document["components"]["schemas"].items():
        assert f'id="{name}"' in text
        for field in schema.get("properties", {}):
            assert f"<code>{field}</code>" in text


def test_it_loads_nothing_and_its_links_lead_somewhere(api: httpx.Client) -> None:
    answered = api.get("/docs")
    assert answered.headers["Content-Type"].startswith("text/html")
    assert answered.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src")
    page = Page(answered.text)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(link == "openapi.json" or link.removeprefix("#") in page.ids for link in page.links)
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?https?:", answered.text)


def test_answers_that_are_no_page_let_a_browser_load_nothing(api: httpx.Client) -> None:
    policy = api.get("/livez").headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"
    assert api.get("/redoc").status_code == 404
