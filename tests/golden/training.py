"""What training gives, bit by bit: digests of a bundle's data files and the evidence for the gate.

Another processor or another version of a library may round the last digit in another way, so that what is recorded
holds for one machine and one lock file, which stand beside it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from pathlib import Path
from typing import Any

from tests.golden.markets import MARKETS, train
from tests.golden.storage import DATA
from tests.golden.system import ROOT, must

RECORD = DATA / "training.json"
ONLINE_RETAIL_II = "online-retail-ii"
SIMULATED = "simulated markets"


def machine() -> dict[str, str]:
    """What the record holds for."""
    processors = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", processors.read_text("utf-8")) if processors.exists() else None
    return {
        "processor": model[1] if model else platform.processor(),
        "machine": platform.machine(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "deploy/train.lock": hashlib.sha256((ROOT / "deploy" / "train.lock").read_bytes()).hexdigest(),
    }


def simulated(folder: Path) -> dict[str, Any]:
    """Train on both markets and return what each gave."""
    found = {}
    for market in MARKETS:
        (folder / market.name).mkdir()
        bundle = train(market, folder / market.name)
        (gate,) = (folder / market.name).rglob("gate.json")
        found[market.name] = {"digests": digests(bundle), "gate": json.loads(gate.read_text("utf-8"))}
    return found


def online_retail_ii(path: Path, folder: Path) -> dict[str, Any]:
    """Train on the real invoices, with nothing replayed: that changes no data file."""
    config = folder / "config.toml"
    config.write_text("[evaluation]\nreplay = false\n", encoding="utf-8")
    where = ("--orders", path, "--preset", ONLINE_RETAIL_II, "--as-of", "2011-06-01", "--config", config)
    must("train", *where, "--out", folder / "bundle", "--tracking-uri", f"sqlite:///{folder}/mlflow.db")
    return {"digests": digests(folder / "bundle")}


def digests(bundle: Path) -> dict[str, str]:
    """The SHA-256 of each data file, and that the manifest says the same."""
    files = json.loads((bundle / "manifest.json").read_text("utf-8"))["files"]
    said = {file["name"]: file["sha256"] for file in files}
    found = {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in said}
    assert found == said
    return found


def read_record() -> dict[str, Any]:
    return json.loads(RECORD.read_text("utf-8"))


def write_record(name: str, content: dict[str, Any]) -> None:
    """Keep what training gave on this machine; what another one gave does not stand beside it."""
    record = read_record() if RECORD.exists() else {}
    kept = record if record.get("machine") == machine() else {}
    RECORD.write_text(json.dumps(kept | {"machine": machine(), name: content}, indent=1) + "\n", "utf-8")
