"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Store = Annotated[str, typer.Option(help="Event store of the servers: sqlite:///FILE or postgresql://HOST/NAME.")]

DEFAULT_STORE = "sqlite:///var/offers.db"
