"""A resealed bundle is refused with a sentence, or answers every kind of request: it never ends the process.

The long form (`make proof`) tries a thousand and writes docs/proof/bundle_fuzz.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.bundle import hostile_bundles as hostile

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PROOF = REPOSITORY / "docs" / "proof" / "bundle_fuzz.json"
LABELS = [mutation.label for mutation in hostile.mutations()]


def tried(folder: Path, numbers: list[int], n_requests: int, *, checked: bool = True) -> dict[int, str]:
    """Return what came of each mutation; a child that dies is one crash, and another child goes on behind it."""
    found: dict[int, str] = {}
    left = list(numbers)
    while left:
        child = subprocess.run(
            [sys.executable, "-m", hostile.__name__, folder, str(n_requests), "checked" if checked else "unchecked"],
            cwd=REPOSITORY,
            input="".join(f"{number}\n" for number in left),
            capture_output=True,
            text=True,
            timeout=1_500,
            check=False,
        )
        said = [json.loads(line) for line in child.stdout.splitlines()]
        found |= {line["ends"]: line["came"] for line in said if "ends" in line}
        left = [number for number in left if number not in found]
        if not left:
            break
        assert said, child.stderr
        assert said[-1].get("begins") == left[0], child.stderr
        found[left.pop(0)] = f"crashed: {signal.Signals(-child.returncode).name if child.returncode < 0 else '?'}"
    return found


def counts_of(found: dict[int, str]) -> Counter[str]:
    return Counter(came.split(":")[0] for came in found.values())


def faults_of(found: dict[int, str]) -> list[str]:
    return [f"{LABELS[number]}: {came}" for number, came in found.items() if came.startswith(("crashed", "raised"))]


def chosen(n: int) -> list[int]:
    """All ranges that go wrong, and the rest drawn."""
    ranges = [number for number, label in enumerate(LABELS) if label.startswith("ranges of")]
    others = [number for number in np.random.default_rng(1).permutation(len(LABELS)).tolist() if number not in ranges]
    return sorted([*ranges, *others[: n - len(ranges)]])


def test_sixty_hostile_bundles_are_refused_or_answer(tmp_path: Path) -> None:
    found = tried(tmp_path, chosen(60), 36)
    assert faults_of(found) == []
    counts = counts_of(found)
    assert set(counts) == {"refused", "answered"}
    assert counts.total() == 60


def test_without_the_check_a_range_that_overflows_ends_the_process(tmp_path: Path) -> None:
    """The negative control: the same bundle, the same requests, and only the check is left out."""
    number = LABELS.index("ranges of accounts.candidates: start + count overflows")
    found = tried(tmp_path, [number], 36, checked=False)
    assert found == {number: "crashed: SIGSEGV"}


@pytest.mark.proof
@pytest.mark.timeout(3_000)
def test_proof_of_a_thousand_hostile_bundles(tmp_path: Path) -> None:
    found = tried(tmp_path, chosen(1_000), 200)
    without = tried(tmp_path, chosen(60), 36, checked=False)
    assert faults_of(found) == []
    kinds = Counter(LABELS[number].split(":")[0].split(".")[0].split(" ")[0] for number in found)
    proof = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores",
        "mutations": len(found),
        "of": len(LABELS),
        **{name: counts_of(found)[name] for name in ("refused", "answered", "raised", "crashed")},
        "requests_to_each": 200,
        "by_table": dict(sorted(kinds.items())),
        "sixty_without_the_check": dict(sorted(counts_of(without).items())),
    }
    PROOF.write_text(json.dumps(proof, indent=1) + "\n")
