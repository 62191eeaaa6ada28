"""`offers ladder`: the upgrade ladder of a model as a CSV file that a person edits.

The edited file goes back by `offers train --ladder FILE`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.text import Text

from recsys.bundle.load import checked_file, load_bundle
from recsys.bundle.resolve import DEFAULT_TRACKING_URI, resolve_model
from recsys.contracts import columns as c
from recsys.ladder.edges import Ladder
from recsys.ladder.file import write_ladder

FRAME = "frames/ladder.parquet"


def ladder(
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    model: Annotated[
        str, typer.Option(help="models:/offers@challenger, models:/offers/3, or the folder of a bundle.")
    ] = "models:/offers@challenger",
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps its registry.")] = DEFAULT_TRACKING_URI,
) -> None:
    """Write the upgrade ladder of a model as CSV, to be edited and read back by `offers train --ladder`."""
    bundle = load_bundle(resolve_model(model, tracking_uri=tracking_uri))
    edges = pd.read_parquet(checked_file(bundle.path, bundle.manifest, FRAME))
    products = bundle.model.products
    names = pd.DataFrame({c.PRODUCT_ID: list(products.ids), c.NAME: list(products.names)})
    write_ladder(Ladder(edges), names, out)
    console = Console()
    console.print(Text(f"{len(edges):,} edges in {out}. Delete rows, or add some (two ids are enough); then:"))
    console.print(Text(f"offers train ... --ladder {out}"))
