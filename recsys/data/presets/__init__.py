"""Well-known layouts, by name."""

from recsys.data.presets.preset import Preset
from recsys.data.presets.registry import PRESETS, find_preset

__all__ = ["PRESETS", "Preset", "find_preset"]
