"""`offers demo`, what `make demo` runs: the main job end to end on a simulated market.

It calls the same commands that a user would, in a folder of its own, so that what it shows is what they do.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.client import Answer, OfferClient
from recsys.contracts import columns as c
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.errors import ServerError
from recsys.extras import require

_FOLDER = Path("var/demo")
_COMMAND = (sys.executable, "-c", "import sys; from recsys.cli import main; sys.argv[0] = 'offers'; main()")
READY_SECONDS = 60.0
console = Console()


def demo_command(
    accounts: Annotated[int, typer.Option(min=200, help="Accounts of the simulated market.")] = 1_500,
    products: Annotated[int, typer.Option(min=100, help="Products of the simulated market.")] = 800,
    requests: Annotated[int, typer.Option(min=1, help="Storefront requests to send.")] = 300,
    folder: Annotated[Path, typer.Option(help="Where everything is written.")] = _FOLDER,
    seed: Annotated[int, typer.Option(help="Of the market and of the requests.")] = 0,
) -> None:
    """Simulate a market, train, register, promote, serve, ask a few hundred times, and show the answers."""
    require("serve", what="offers demo")
    begun = time.monotonic()
    market = folder / "market"
    tracking = f"sqlite:///{folder}/mlflow.db"
    store = f"sqlite:///{folder}/offers.db"
    folder.mkdir(parents=True, exist_ok=True)
    _offers("simulate", "--accounts", str(accounts), "--products", str(products), "--seed", str(seed), "--out", market)
    tables = [
        part
        for name in ("orders", "products", "accounts", "upgrades")
        for part in (f"--{name}", market / f"{name}.parquet")
    ]
    _offers("train", *tables, "--tracking-uri", tracking)
    if not _offers("promote", "--tracking-uri", tracking, may_refuse=True):
        _offers("promote", "--override", "a demonstration", "--tracking-uri", tracking)
    with _server(tracking, store) as url, OfferClient(url) as client:
        version = client.wait_until_ready(READY_SECONDS)
        console.print(Text(f"\nServing model {version} at {url}", style="bold"), soft_wrap=True)
        asked = _requests(market, requests, np.random.default_rng(seed))
        _ask(client, asked)
        _show(client, asked[0])
    console.print(
        Text(f"\nDone in {time.monotonic() - begun:.0f} s. Where to look next:", style="bold"), soft_wrap=True
    )
    typer.echo(f"  the runs and the model   mlflow ui --backend-store-uri {tracking}")
    typer.echo(f"  serve it yourself        offers serve --tracking-uri {tracking} --store {store}")
    typer.echo("  the API's documentation  http://127.0.0.1:8000/docs, while it is served")
    bulk = "offers recommend --model models:/offers@champion --out offers.csv"
    typer.echo(f"  offers for everybody     {bulk} --tracking-uri {tracking}")


def _offers(*arguments: str | Path, may_refuse: bool = False) -> bool:
    """Run `offers` as a user would, show it, and return whether it did what was asked."""
    words = [str(argument) for argument in arguments]
    console.print(Text(f"\n$ offers {shlex.join(words)}", style="bold"), soft_wrap=True)
    done = subprocess.run([*_COMMAND, *words], check=False)  # noqa: S603 - our own command
    if done.returncode != 0 and not may_refuse:
        raise typer.Exit(done.returncode)
    return done.returncode == 0


@contextmanager
def _server(tracking: str, store: str) -> Iterator[str]:
    """Serve the champion on a free port of the loopback, for as long as the block runs."""
    port = _free_port()
    arguments = ["serve", "--port", str(port), "--tracking-uri", tracking, "--store", store]
    console.print(Text(f"\n$ offers {' '.join(arguments)} &", style="bold"), soft_wrap=True)
    with subprocess.Popen([*_COMMAND, *arguments]) as process:  # noqa: S603 - our own command
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is not None:
                raise ServerError(
                    f"the server stopped by itself, exit code {process.returncode}; its last lines say why"
                )
            process.terminate()
            process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _requests(market: Path, n_requests: int, rng: np.random.Generator) -> list[OfferRequest]:
    """Return what storefront pages would ask: accounts that order, each with a cart of three products."""
    lines = pq.read_table(market / "orders.parquet", columns=[c.ACCOUNT_ID, c.PRODUCT_ID])
    accounts = np.array(lines[c.ACCOUNT_ID].unique().drop_null().to_pylist(), dtype=object)
    products = np.array(lines[c.PRODUCT_ID].unique().to_pylist(), dtype=object)
    return [
        OfferRequest(
            account_id=str(account),
            cart=tuple(CartLine(str(product)) for product in rng.choice(products, size=3, replace=False)),
            limit=4,
        )
        for account in rng.choice(accounts, size=n_requests)
    ]


def _ask(client: OfferClient, requests: Sequence[OfferRequest]) -> None:
    tiers: Counter[str] = Counter()
    took = []
    for request in requests:
        begun = time.perf_counter()
        answer = client.offers(request, channel="web", surface="cart")
        took.append(1_000 * (time.perf_counter() - begun))
        tiers[answer.tier or "none"] += 1
    by_tier = ", ".join(f"{tier} {count}" for tier, count in tiers.most_common())
    median, high = np.percentile(took, [50, 99])
    typer.echo(
        f"{len(requests)} storefront requests, one by one: median {median:.1f} ms, p99 {high:.1f} ms ({by_tier})"
    )


def _show(client: OfferClient, request: OfferRequest) -> None:
    cart = ", ".join(line.product_id for line in request.cart)
    answer = client.offers(request, channel="web", surface="cart")
    console.print(_slate(f"Storefront: account {request.account_id}, cart {cart}", answer))
    answer = client.account_offers(
        OfferRequest(account_id=request.account_id, limit=6, explain="full"), surface="sales"
    )
    console.print(_slate(f"Sales view: what to say to account {request.account_id}", answer))


def _slate(title: str, answer: Answer) -> Table:
    caption = f"decision {answer.decision_id}, tier {answer.tier}, logged {answer.logged}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for name in ("", "offer", "kind", "price", "probability", "because"):
        table.add_column(name)
    for offer in answer.offers:
        price = "" if offer.price is None else f"{offer.price:,.2f} {offer.currency or ''}"
        name = f"{offer.name or ''} ({offer.product_id})"
        table.add_row(str(offer.rank), name, offer.kind, price, f"{offer.probability:.1%}", offer.reason)
    return table
