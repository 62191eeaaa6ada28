"""Prices of real histories, against what known accounts pay in the next 30 days."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.arrays import FloatArray, RowArray, weighted_median
from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.evaluation.statistics.bootstrap import paired_difference
from recsys.fitting.prices import PaidPrices, paid_prices
from recsys.models.quantities import product_quantities
from recsys.offer_model.tables import EVERYONE
from tests.conftest import real_file

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "prices.json"
# None of them was developed on.
CUTOFFS = (datetime(2010, 7, 15, tzinfo=UTC), datetime(2010, 11, 1, tzinfo=UTC), datetime(2011, 5, 1, tzinfo=UTC))
CUTOFFS_OF_RESELLERS = (
    datetime(2018, 12, 1, tzinfo=UTC),
    datetime(2019, 5, 1, tzinfo=UTC),
    datetime(2019, 8, 1, tzinfo=UTC),
)
HORIZON_DAYS, TRAILING_DAYS = 30, 60
FAR_OFF, MOVED = 0.3, 0.2


def median_price(lines: History) -> FloatArray:
    """Of each product's lines, NaN without one."""
    return weighted_median(lines.product, lines.unit_price, np.ones(len(lines)), lines.n_products)


def price_at(paid: PaidPrices, product: RowArray, segment: RowArray, quantity: FloatArray) -> FloatArray:
    """The price that is served for each product, segment and quantity."""
    found = paid.usual[product].copy()
    for row in range(len(paid.product)):  # sorted: the last one that is reached holds
        holds = (product == paid.product[row]) & (quantity >= paid.least_quantity[row])
        found[holds & ((paid.segment[row] == EVERYONE) | (segment == paid.segment[row]))] = paid.price[row]
    return found


def of_invoices(history: History, cutoff: datetime) -> dict[str, Any]:
    """Compare each product's price at its usual quantity with the median of the next lines."""
    past = history.before(cutoff)
    products = np.arange(history.n_products, dtype=np.int32)
    everyone = np.zeros(history.n_accounts, dtype=np.int32)
    price = price_at(paid_prices(past, everyone, "GBP"), products, np.zeros_like(products), product_quantities(past))
    trailing = median_price(past.between(cutoff - timedelta(days=TRAILING_DAYS), TRAILING_DAYS).known())
    paid = median_price(history.between(cutoff, HORIZON_DAYS).known())
    both = np.isfinite(trailing) & np.isfinite(paid) & (trailing > 0) & (paid > 0)
    price, trailing, paid = price[both], trailing[both], paid[both]
    # A price that falls to a tenth would count as nine that double.
    error, trailing_error = (np.minimum(np.abs(each / paid - 1), 1.0) for each in (price, trailing))
    moved = np.abs(paid / trailing - 1) >= MOVED
    gain = paired_difference(error[moved], trailing_error[moved], np.random.default_rng(14))
    far_off, trailing_far_off = ((each > FAR_OFF).astype(np.float64) for each in (error, trailing_error))
    more = paired_difference(far_off, trailing_far_off, np.random.default_rng(14))
    return {
        "products": int(both.sum()),
        "median_error": [float(np.median(error)), float(np.median(trailing_error))],
        "mean_error": [float(error.mean()), float(trailing_error.mean())],
        "share_far_off": [float(far_off.mean()), float(trailing_far_off.mean())],
        "difference_of_share_far_off": [more.estimate, more.low, more.high],
        "moved": int(moved.sum()),
        "mean_error_of_moved": [float(error[moved].mean()), float(trailing_error[moved].mean())],
        "difference_of_moved": [gain.estimate, gain.low, gain.high],
        "share_far_off_the_trailing_median": float((np.abs(price / trailing - 1) > FAR_OFF).mean()),
    }


def of_resellers(history: History, segment_of: RowArray, cutoff: datetime) -> dict[str, Any]:
    """Compare the price at each line's quantity with what the line cost, by the quantity."""
    paid = paid_prices(history.before(cutoff), segment_of, None)
    lines = history.between(cutoff, HORIZON_DAYS)
    lines = lines.select(np.isfinite(paid.usual[lines.product]))
    price = price_at(paid, lines.product, segment_of[lines.account], lines.quantity)
    off = pd.DataFrame(
        {
            "units": np.where(
                lines.quantity <= 10, "1 to 10", np.where(lines.quantity <= 24, "11 to 24", "25 and more")
            ),
            "by_quantity": np.abs(price / lines.unit_price - 1) > 0.01,
            "one_price": np.abs(paid.usual[lines.product] / lines.unit_price - 1) > 0.01,
        }
    )
    shares = off.groupby("units").agg(
        lines=("units", "size"), by_quantity=("by_quantity", "mean"), one_price=("one_price", "mean")
    )
    return {
        "products": int(np.isfinite(paid.usual).sum()),
        "products_with_breaks": len(np.unique(paid.product[paid.segment == EVERYONE])),
        "prices_of_segments": int((paid.segment != EVERYONE).sum()),
        "lines_off_by_more_than_1_percent": shares.to_dict("index"),
    }


@pytest.mark.data
@pytest.mark.proof  # half a minute; test_prices.py guards every change
def test_prices_are_near_what_is_paid_next(online_retail_history: History) -> None:
    found = {f"{cutoff:%Y-%m-%d}": of_invoices(online_retail_history, cutoff) for cutoff in CUTOFFS}
    write("online_retail_ii", found)
    for figures in found.values():
        assert figures["median_error"][0] <= figures["median_error"][1]
        assert figures["difference_of_share_far_off"][1] <= 0  # worse by no more than chance
        assert figures["difference_of_moved"][2] < 0
        assert figures["share_far_off_the_trailing_median"] < 0.03


@pytest.mark.data
@pytest.mark.proof
def test_tiers_of_resellers_are_found_and_their_segments_pay_alike() -> None:
    folder = real_file("adventureworks")
    columns = {
        "order_id": "SalesOrderNumber", "account_id": "ResellerKey", "product_id": "ProductKey",
        "ordered_at": "OrderDate", "line_cost": "Cost",
    }  # fmt: skip
    history = Dataset.read(folder / "sales.parquet", columns=columns).history()
    resellers = pd.read_parquet(folder / "resellers.parquet").set_index("ResellerKey")
    kinds = resellers["BusinessType"].loc[history.account_ids.astype(int)]
    segment_of = (1 + pd.factorize(kinds, sort=True)[0]).astype(np.int32)
    found = {f"{cutoff:%Y-%m-%d}": of_resellers(history, segment_of, cutoff) for cutoff in CUTOFFS_OF_RESELLERS}
    write("adventure_works", found)
    for figures in found.values():
        assert figures["products_with_breaks"] == figures["products"]
        assert figures["prices_of_segments"] == 0
        many = figures["lines_off_by_more_than_1_percent"]["11 to 24"]
        assert many["by_quantity"] < 0.1 * many["one_price"]


def write(name: str, figures: dict[str, Any]) -> None:
    proof = json.loads(PROOF.read_text("utf-8")) if PROOF.exists() else {}
    proof["machine"] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
    proof["what"] = (
        "prices against what known accounts paid in the next 30 days; of two figures the first is the price's at the"
        " product's usual quantity, the second that of the median of the 60 days before. Moved: by 20 % or more from"
        " that median; errors there are relative, 100 % at the most, with the 95 % interval of the difference over"
        " products. Resellers: each line's price at its quantity, and the price without regard to it"
    )
    proof[name] = figures
    PROOF.write_text(json.dumps(proof, indent=1) + "\n", "utf-8")
