"""The presets that exist."""

from __future__ import annotations

import difflib

from recsys.data.presets.online_retail_ii import OnlineRetailII
from recsys.data.presets.preset import Preset
from recsys.errors import ConfigError

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
