"""The OpenAPI document, and the help of every command."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.golden.comparison import Case
from tests.golden.exchange import FixedClock, client_of
from tests.golden.markets import NORTH
from tests.golden.system import application, must

_LISTED = re.compile(r"^Commands.*?:\n((?:  .*\n)+)", re.MULTILINE)


def openapi(bundle: Path, folder: Path) -> list[Case]:
    """Return the document of a server without keys, and what differs with keys."""
    must("key", "create", "--name", "any", "--owner", "team", "--scope", "offers", "--keys", folder / "keys.json")
    found = []
    for name, settings in (("without keys", {}), ("with keys", {"keys_file": folder / "keys.json"})):
        with application(f"sqlite:///{folder}/offers.db", bundle, FixedClock(NORTH.now), settings) as app:
            document = asyncio.run(_document(app))
        for part in ("paths", "components"):
            for path, content in document.pop(part).items():
                found.append({"case": f"{name} {part} {path}", "content": content})
        found.append({"case": f"{name} the rest", "content": document})
    return found


def helps() -> list[Case]:
    """Return the help of `offers`, of each of its commands and of each of theirs."""
    return [{"case": " ".join(["offers", *words]), "lines": text.split("\n")} for words, text in _helps(())]


def _helps(words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    text = must(*words, "--help")
    yield words, text
    listed = _LISTED.search(text)
    if listed is not None:
        for name in re.findall(r"^  (\S+)", listed[1], re.MULTILINE):
            yield from _helps((*words, name))


async def _document(app: Any) -> dict[str, Any]:
    async with client_of(app) as client:
        response = await client.get("/openapi.json")
        assert response.status_code == 200
        return response.json()
