"""The files under `docs/proof`: what was found, on which machine and when."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof"


def write_proof(file: str, what: str, **found: object) -> None:
    """Write a proof of one's own file: the machine, what was done, and what it found."""
    machine = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
    (PROOF / file).write_text(json.dumps({"machine": machine, "what": what, **found}, indent=1) + "\n", "utf-8")
