"""Well-known layouts, by name."""

from recsys.data.presets.registry import PRESETS, Preset, find_preset

__all__ = ["PRESETS", "Preset", "find_preset"]
