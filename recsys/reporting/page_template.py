"""The templates of all pages: one set-up, so that text is escaped and a misspelt name is an error everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from recsys.reporting.svg import PALETTE


def page_template(name: str, package: str = "recsys.reporting", **filters: Callable[..., Any]) -> Template:
    """Return the template `NAME.html.j2` in a package's folder `templates`.

    Values are escaped but for those with `__html__`, as a `Drawing` has; `palette` holds the charts' colours.
    """
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    environment.globals["palette"] = PALETTE
    return environment.get_template(f"{name}.html.j2")
