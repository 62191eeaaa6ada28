"""A distribution of others: `foreign_parts` with the entry points that it declares, as an installer leaves it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support import foreign_parts

ENTRY_POINTS = """
[offer_engine.retrievers]
same_brand = foreign_parts:SameBrand
[offer_engine.rankers]
normal_bayes = foreign_parts:NormalBayes
[offer_engine.features]
owned_of_price = foreign_parts:OwnedOfPrice
[offer_engine.baselines]
rising = foreign_parts:Rising
"""


def install(folder: Path, entry_points: str = ENTRY_POINTS) -> None:
    """Put the module and what was said of it into a folder, which the caller puts on the path."""
    shutil.copy(str(foreign_parts.__file__), folder)
    about = folder / "foreign_parts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-parts\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
