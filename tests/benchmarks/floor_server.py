"""The two floors that serving is measured against, on the HTTP server of `offers serve`, loop and core.

Usage: floor_server.py ANSWER_FILE KIND; writes its URL as the first line of standard output. KIND `parsed`: FastAPI
parses the body into `OffersBody`, or the query, and returns the same dictionary. `constant`: an ASGI application that
reads the body and returns the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import uvloop
from fastapi import FastAPI, Query
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.processes.http_server import serve
from serving.processes.server import reserve
from serving.schemas.offers import AccountOffersQuery, OffersBody
from serving.settings import ConnectionLimits


def parsed(content: bytes) -> ASGIApp:
    app = FastAPI()
    answer: dict[str, Any] = json.loads(content)

    @app.post("/v1/offers")
    async def post_offers(body: OffersBody) -> Any:
        return answer

    @app.get("/v1/accounts/{account_id}/offers")
    async def get_offers(account_id: str, query: Annotated[AccountOffersQuery, Query()]) -> Any:
        return answer

    return app


def constant(content: bytes) -> ASGIApp:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


def main() -> None:
    app = {"parsed": parsed, "constant": constant}[sys.argv[2]](Path(sys.argv[1]).read_bytes())
    with reserve("127.0.0.1", 0, keys=False) as reserved:
        host, port = reserved.getsockname()
        uvloop.run(serve(app, (host, port), ConnectionLimits(), lambda: print(f"http://{host}:{port}", flush=True)))


if __name__ == "__main__":
    main()
