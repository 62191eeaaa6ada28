"""The presets by name, each a mapping of columns and a refinement of what the mapping gives."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Protocol

import ibis

from recsys.data.presets.online_retail_ii import OnlineRetailII
from recsys.data.report import DropReason
from recsys.errors import ConfigError


class Preset(Protocol):
    """How one well-known layout of order lines is read.

    Attributes:
        name: what `--preset` calls it.
        mapping: contract name -> column of the layout.
        kept_columns: further columns of the layout that `refine` needs, under their own names.
        reasons: why `refine` drops rows.
    """

    name: str
    mapping: Mapping[str, str]
    kept_columns: tuple[str, ...]
    reasons: tuple[DropReason, ...]

    def refine(self, lines: ibis.Table) -> ibis.Table:
        """Return the lines with values put right and `drop_reason` set where a row is not a line of an order.

        Every expression may look at its own row only: what a later row says must not change an earlier one.

        Args:
            lines: the columns of `mapping` with the types of the contract, `kept_columns`, and `drop_reason`, which
                says what could not be read and is null otherwise.
        """
        ...


PRESETS: tuple[Preset, ...] = (OnlineRetailII(),)


def find_preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        ConfigError: no preset is called so.
    """
    known = {preset.name: preset for preset in PRESETS}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"preset == {name!r}, must be one of {', '.join(sorted(known))}; {hint}"
        "for another layout map its columns (`offers check` proposes how)"
    )
