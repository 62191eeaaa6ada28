"""The preset against an independent computation in pandas on the real file."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.contracts.tables import ACCOUNTS, ORDERS, PRODUCTS
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.report import TableReport

pytestmark = pytest.mark.data
AS_OF = datetime(2011, 6, 1, tzinfo=UTC)


class ByHand:
    """What becomes of each row, one rule after the other, in pandas and a loop over stacks."""

    def __init__(self, raw: pd.DataFrame, as_of: datetime | None) -> None:
        raw = raw.reset_index(drop=True)
        moment = pd.Timestamp("2100-01-01" if as_of is None else as_of.replace(tzinfo=None))
        code = raw["StockCode"].astype(str).str.strip()
        cancels = raw["Invoice"].astype(str).str.startswith("C")
        rules = [
            (raw["InvoiceDate"] >= moment, "at_or_after_as_of"),
            ((raw["Sheet"] == "Year 2009-2010") & (raw["InvoiceDate"] >= "2010-12-01"), "sheet_overlap"),
            (~code.str[:5].str.fullmatch("[0-9]{5}"), "not_a_product"),
            (~cancels & (raw["Quantity"] < 0), "stock_adjustment"),
            (raw["Price"] == 0, "zero_price"),
            (raw["Quantity"] == 0, "zero_quantity"),
            (raw["Price"] < 0, "negative_price"),
        ]
        self.reason = pd.Series(
            np.select([rule.to_numpy() for rule, _ in rules], [name for _, name in rules], default=""), dtype=object
        )
        self.raw = raw.assign(code=code.str.upper(), account=raw["Customer ID"].astype("Int64").astype("string"))
        self.left = raw["Quantity"].astype(float).to_numpy().copy()
        self._match()
        self.kept = (self.reason == "").to_numpy()

    def _match(self) -> None:
        good = self.raw[self.reason == ""]
        nobodys = good.index[(good["Quantity"] < 0) & good["account"].isna()]
        self.reason[nobodys] = "reversal_unmatched"
        known = good[good["account"].notna()]
        pairs = known[known["Quantity"] < 0][["account", "code"]].drop_duplicates()
        touched = known.reset_index().merge(pairs, on=["account", "code"], validate="many_to_one")
        touched["back"] = touched["Quantity"] < 0
        touched = touched.sort_values(["InvoiceDate", "back", "Invoice", "Price", "Quantity", "index"])
        stacks: dict[tuple[str, str], list[int]] = defaultdict(list)
        rows = zip(touched["index"], touched["account"], touched["code"], touched["Quantity"], strict=True)
        for row, account, product, quantity in rows:
            stack = stacks[account, product]
            if quantity > 0:
                stack.append(row)
                continue
            wanted = -quantity
            while wanted and stack:
                taken = min(wanted, self.left[stack[-1]])
                self.left[stack[-1]] -= taken
                wanted -= taken
                if not self.left[stack[-1]]:
                    self.reason[stack.pop()] = "reversed"
            whole, none = wanted == 0, wanted == -quantity
            self.reason[row] = "reversal" if whole else "reversal_unmatched" if none else "reversal_partly_matched"

    def counts(self) -> dict[str, int]:
        return {str(name): int(n) for name, n in self.reason[self.reason != ""].value_counts().items()}

    def lines(self) -> pd.DataFrame:
        kept = self.raw[self.kept].assign(left=self.left[self.kept])
        return kept.sort_values(["InvoiceDate", "Invoice"], kind="stable", ignore_index=True)


@pytest.fixture(scope="module")
def raw(online_retail_path: Path) -> pd.DataFrame:
    return pd.read_parquet(online_retail_path)


@pytest.fixture(scope="module")
def whole(online_retail: Dataset) -> Dataset:
    return online_retail


@pytest.fixture(scope="module")
def early(online_retail_path: Path) -> Dataset:
    return read_dataset(ReadSpec(orders=str(online_retail_path), preset="online-retail-ii", as_of=AS_OF))


@pytest.fixture(scope="module")
def whole_by_hand(raw: pd.DataFrame) -> ByHand:
    return ByHand(raw, None)


@pytest.fixture(scope="module")
def early_by_hand(raw: pd.DataFrame) -> ByHand:
    return ByHand(raw, AS_OF)


def counts(report: TableReport) -> dict[str, int]:
    return {item.reason.name: item.rows for item in report.dropped}


def test_every_count_of_the_whole_file(whole: Dataset, whole_by_hand: ByHand) -> None:
    assert counts(whole.report.orders) == whole_by_hand.counts()
    assert whole.report.orders.rows_kept == int(whole_by_hand.kept.sum())


def test_every_count_before_as_of(early: Dataset, early_by_hand: ByHand) -> None:
    assert counts(early.report.orders) == early_by_hand.counts()
    assert early.report.orders.rows_kept == int(early_by_hand.kept.sum())


def test_the_rows_are_all_accounted_for(whole: Dataset) -> None:
    report = whole.report.orders
    assert report.rows_read == 846_166
    assert report.rows_read == report.rows_kept + report.rows_rejected + report.rows_left_out


def test_the_default_as_of_is_the_day_after_the_last_order(whole: Dataset) -> None:
    assert whole.as_of == datetime(2011, 9, 1, tzinfo=UTC)
    assert whole.currency == "GBP"


@pytest.mark.parametrize("which", ["whole", "early"])
def test_the_lines_are_those_computed_by_hand(which: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(which).lines()
    expected = request.getfixturevalue(f"{which}_by_hand").lines()
    assert list(found.columns) == list(ORDERS.names)
    assert (found[c.ORDER_ID].to_numpy() == expected["Invoice"].astype(str).to_numpy()).all()
    assert (found[c.PRODUCT_ID].to_numpy() == expected["code"].to_numpy()).all()
    assert (found[c.QUANTITY].to_numpy() == expected["left"].to_numpy()).all()
    assert (found[c.UNIT_PRICE].to_numpy() == expected["Price"].to_numpy()).all()
    accounts = expected["account"].fillna("").to_numpy(dtype=object)
    assert (found[c.ACCOUNT_ID].fillna("").to_numpy(dtype=object) == accounts).all()


def test_a_cancellation_after_as_of_takes_nothing_from_a_sale_before_it(
    early: Dataset, whole_by_hand: ByHand, early_by_hand: ByHand
) -> None:
    later = (whole_by_hand.left < early_by_hand.left) & early_by_hand.kept
    assert later.sum() > 400  # the case is common in this file
    assert float(early.orders[c.QUANTITY].sum().to_pyarrow().as_py()) == early_by_hand.left[early_by_hand.kept].sum()


def test_rows_at_or_after_as_of_change_nothing(early: Dataset, raw: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "before.parquet"
    raw[raw["InvoiceDate"] < AS_OF.replace(tzinfo=None)].to_parquet(path)
    alone = read_dataset(ReadSpec(orders=str(path), preset="online-retail-ii", as_of=AS_OF))
    assert alone.fingerprint == early.fingerprint
    pd.testing.assert_frame_equal(alone.products, early.products)
    pd.testing.assert_frame_equal(alone.accounts, early.accounts)
    without = {name: n for name, n in counts(early.report.orders).items() if name != "at_or_after_as_of"}
    assert counts(alone.report.orders) == without


def test_ids_are_text_without_a_fraction_and_in_upper_case(whole: Dataset) -> None:
    assert whole.accounts[c.ACCOUNT_ID].str.fullmatch("[0-9]{5}").all()
    assert whole.products[c.PRODUCT_ID].str.fullmatch("[0-9]{5}[A-Z]{0,2}").all()


def test_names_are_the_most_frequent_spelling_and_prices_are_not_listed(early: Dataset, early_by_hand: ByHand) -> None:
    lines = early_by_hand.lines()
    names = lines.assign(name=lines["Description"].str.split().str.join(" ")).dropna(subset=["name"])
    names = names[names["name"] != ""]
    often = names.groupby(["code", "name"], as_index=False).size()
    often = often.sort_values(["code", "size", "name"], ascending=[True, False, True]).drop_duplicates("code")
    products = early.products.set_index(c.PRODUCT_ID)
    assert products[c.NAME].dropna().to_dict() == often.set_index("code")["name"].to_dict()
    assert products[c.PRICE].isna().all()


def test_accounts_have_their_region_and_first_order(early: Dataset, early_by_hand: ByHand) -> None:
    known = early_by_hand.lines().dropna(subset=["account"])
    first = known.groupby("account")["InvoiceDate"].min().dt.tz_localize("UTC")
    accounts = early.accounts.set_index(c.ACCOUNT_ID)
    assert accounts[c.CREATED_AT].to_dict() == first.to_dict()
    assert accounts.loc["12347", c.REGION] == "Iceland"


def test_history_has_the_vocabularies_of_the_tables(early: Dataset) -> None:
    history = early.history()
    assert len(history) == early.report.orders.rows_kept
    assert list(history.account_ids) == list(early.accounts[c.ACCOUNT_ID])
    assert list(history.product_ids) == list(early.products[c.PRODUCT_ID])
    assert int((history.account < 0).sum()) == int(early.lines()[c.ACCOUNT_ID].isna().sum())


def test_the_cleaned_tables_keep_their_contracts(whole: Dataset) -> None:
    assert ORDERS.pandera_ibis().validate(whole.orders) is not None
    assert len(PRODUCTS.pandera_frame().validate(whole.products)) == len(whole.products)
    assert len(ACCOUNTS.pandera_frame().validate(whole.accounts)) == len(whole.accounts)


def test_the_same_rows_as_text_give_the_same_data(early: Dataset, raw: pd.DataFrame, tmp_path: Path) -> None:
    rows = raw[raw["InvoiceDate"] < "2009-12-20"].copy()
    as_parquet, as_text = tmp_path / "rows.parquet", tmp_path / "rows.csv.gz"
    rows.to_parquet(as_parquet)
    rows.assign(**{"Customer ID": rows["Customer ID"].astype("float64")}).to_csv(as_text, index=False)  # 13085.0
    typed, text = (
        read_dataset(ReadSpec(orders=str(path), preset="online-retail-ii")) for path in (as_parquet, as_text)
    )
    assert text.fingerprint == typed.fingerprint
    assert counts(text.report.orders) == counts(typed.report.orders)
    assert ".csv.gz" in text.report.orders.location
