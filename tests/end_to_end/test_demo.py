"""The demo, small: every command of the loop, a real server, and both answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OFFERS = Path(sys.executable).parent / "offers"


def test_the_loop_closes(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(OFFERS), "demo", "--accounts", "250", "--products", "150", "--requests", "20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = ("Registered as offers version 1", "champion: offers version 1", "20 storefront requests")
    for part in (*steps, "Storefront: ", "Sales view: ", "logged True", "Where to look next"):
        assert part in done.stdout
    assert (tmp_path / "var" / "demo" / "offers.db").stat().st_size > 0
