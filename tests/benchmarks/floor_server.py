"""The floor that serving is measured against: FastAPI parses the same body, returns a constant JSON of the same size.

Usage: floor_server.py ANSWER_FILE; writes its URL as the first line of standard output.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from serving.schemas.offers import OffersBody

ANSWER: dict[str, Any] = json.loads(Path(sys.argv[1]).read_bytes())

app = FastAPI()


@app.post("/v1/offers")
async def post_offers(body: OffersBody) -> Any:
    return ANSWER


@app.get("/v1/accounts/{account_id}/offers")
async def get_offers(account_id: str, limit: int = 10) -> Any:
    return ANSWER


with socket.socket() as listening:
    listening.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning", ws="none")).run([listening])
