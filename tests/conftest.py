"""Where the tests find the real data, and what a missing data set means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _real_file(name: str) -> Path:
    folder = Path(os.environ.get("OFFERS_DATA", ROOT.parent / "shared" / "data"))
    path = folder / name
    if not path.exists():
        message = f"{name} is not in {folder}; set OFFERS_DATA to the folder of the real data sets"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def online_retail_path() -> Path:
    """The raw invoices of a UK gift wholesaler."""
    return _real_file("online_retail_ii.parquet")


@pytest.fixture(scope="session")
def groceries_path() -> Path:
    """9,835 baskets, no accounts, prices or time."""
    return _real_file("groceries.csv.gz")


@pytest.fixture(scope="session")
def fimi_retail_path() -> Path:
    """The FIMI benchmark `retail`: one basket a line."""
    return _real_file("fimi/retail.dat.gz")


@pytest.fixture(scope="session")
def bank_marketing_path() -> Path:
    """A real term-deposit campaign."""
    return _real_file("bank_marketing_additional_full.parquet")


@pytest.fixture(scope="session")
def hillstrom_path() -> Path:
    """A real randomised e-mail experiment."""
    return _real_file("hillstrom.parquet")
