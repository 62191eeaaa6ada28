"""Which column of an unknown layout is which: by name, by the names other systems use, by what the columns hold."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import ibis
import numpy as np
import pandas as pd

from recsys.contracts import columns as c
from recsys.contracts.tables import (
    ACCOUNTS,
    CARRIED_ACCOUNT_COLUMNS,
    CARRIED_PRODUCT_COLUMNS,
    ORDERS,
    PRODUCTS,
    TableSchema,
)
from recsys.data.checks import BOOLEAN_WORDS, STATUS_WORDS
from recsys.data.mapping import ACCOUNT_AND_DAY, ACCOUNT_AND_TIME, INSTEAD, SYNONYMS, normalise
from recsys.data.numbers import as_number, as_text, detect_decimals_apart
from recsys.data.sources import TableSource
from recsys.data.suspicions import count_grown, looks_like_totals
from recsys.data.times import FORMATS, as_time

Because = Literal[
    "given", "same name", "known name", "similar name", "contents", "no such column", "grows with quantity"
]

_SAMPLE_ROWS = 20_000
_TIME_SHAPE = r"\s*(?:[A-Za-z]{3,9}\.? )?\d{1,4}[-/. ]|\s*\d{8}(?:\D|$)"  # what no format could read is not tried
_TIME_ROWS = 500  # each is read in some ninety ways
_SIMILAR = 0.85  # of difflib's ratio: a typing slip or a plural, not another word
_MOST = 0.9  # of the values must be readable where only the contents speak for a column
_HALF = 0.5  # of the values must be readable where the name speaks for it: bad rows are what `check` is for
_ALIKE = 0.98  # of the rows of one order must agree on a value that belongs to the order
_AGAIN = 100
_LEAST_SHARED = 0.5  # of the orders' ids must stand in a column for it to be the key without a name that says so
_IDS = 1_000
_CODE_COLUMNS = (c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One column of the contract and the column of the source that seems to be it.

    Attributes:
        name: of the contract.
        column: of the source.
        because: what it was recognised by.
        examples: the first values, for people.
    """

    name: str
    column: str
    because: Because
    examples: tuple[str, ...]


def propose_mapping(source: TableSource, given: Mapping[str, str] | None = None) -> tuple[Proposal, ...]:
    """Return which columns of a source of order lines seem to be which of the contract, in its order.

    What is `given` (contract name -> column) stands where the source has the column.

    Names are compared first; a name alone is not believed where the values can't be of its type. What is required
    and still not found is sought by contents: a time by being readable as one, the quantity as the wholer and the
    price as the other number, the order by having one time, the account by being one an order, the product by being
    none of these and the shortest text with many values.
    """
    sample = _Sample.of(source)
    taken: dict[str, tuple[str, Because]] = {
        name: (column, "given") for name, column in (given or {}).items() if name in _NAMES and column in source.columns
    }
    for because, wanted in _names_in_order():
        for name, spellings in wanted.items():
            if name not in taken:
                column = _named(sample, spellings, because, {column for column, _ in taken.values()}, name)
                if column is not None:
                    taken[name] = (column, because)
    for name, column in _by_contents(sample, {name: column for name, (column, _) in taken.items()}).items():
        taken[name] = (column, "contents")
    taken |= _made_order(sample, taken)
    taken = _with_totals(source, sample, taken)
    if c.LINE_ID in taken and taken[c.LINE_ID][1] != "given" and not _tells_lines_apart(sample, taken):
        del taken[c.LINE_ID]
    return tuple(
        Proposal(name, column, because, sample.examples(column) if column in sample.columns else ())
        for name, (column, because) in ((name, taken[name]) for name in _NAMES if name in taken)
    )


_Taken = Mapping[str, tuple[str, Because]]


def _made_order(sample: _Sample, taken: _Taken) -> dict[str, tuple[str, Because]]:
    """An order made of account and time where no column is one: the time where it has a clock, else the day."""
    if c.ORDER_ID in taken or c.ACCOUNT_ID not in taken or c.ORDERED_AT not in taken:
        return {}
    times = sample.texts[taken[c.ORDERED_AT][0]].dropna()
    has_clock = times.str.contains(r"\d:\d\d").any() and not times.str.contains(r"\b00:00(?::00)?").all()
    return {c.ORDER_ID: (ACCOUNT_AND_TIME if has_clock else ACCOUNT_AND_DAY, "no such column")}


def _tells_lines_apart(sample: _Sample, taken: _Taken) -> bool:
    """Whether hardly any two rows have one order and line, which would be taken for one line said twice."""
    key = [taken[name][0] for name in (c.ORDER_ID, c.LINE_ID) if name in taken and taken[name][0] in sample.columns]
    return len(key) == 2 and float(sample.texts.duplicated(key).mean()) <= 1 - _ALIKE


def _with_totals(source: TableSource, sample: _Sample, taken: _Taken) -> dict[str, tuple[str, Because]]:
    """What was taken, where a price or cost that grows with the quantity is that of the line; one of the two stays."""
    settled = dict(taken)
    for unit, line in INSTEAD.items():
        if unit in settled and line in settled:
            del settled[line if settled[unit][1] != "contents" else unit]
        if unit in settled and settled[unit][1] != "given" and _is_total(source, sample, settled, settled[unit][0]):
            settled[line] = (settled.pop(unit)[0], "grows with quantity")
    return settled


def _is_total(source: TableSource, sample: _Sample, taken: _Taken, column: str) -> bool:
    if c.PRODUCT_ID not in taken or c.QUANTITY not in taken or column not in sample.columns:
        return False
    lines = pd.DataFrame(
        {
            c.SOURCE_ROW: range(len(sample.texts)),
            c.PRODUCT_ID: sample.texts[taken[c.PRODUCT_ID][0]],
            c.QUANTITY: sample.numbers.get(taken[c.QUANTITY][0], 1.0),
            c.UNIT_PRICE: sample.numbers[column],
        }
    )
    table = source.table.get_backend().create_table(ibis.util.gen_name("sample"), ibis.memtable(lines), temp=True)
    return looks_like_totals(count_grown(table, c.UNIT_PRICE))


_NAMES_IN: Mapping[str, Sequence[str]] = {
    PRODUCTS.name: (*SYNONYMS[c.NAME], "product", "item", "article", "artikel"),
    ACCOUNTS.name: (
        "customer_name", "account_name", "company_name", "company", "client_name", "firma", "kundenname", "customer",
        "account", "client", "reseller", "kunde",
    ),
}  # fmt: skip
"""What the name that people see is called in a table."""


def propose_for_table(
    source: TableSource, schema: TableSchema, given: Mapping[str, str] | None = None, *, ids: Sequence[str] = ()
) -> tuple[Proposal, ...]:
    """Return which columns of a table of products or accounts seem to be which of its contract, as `products.price`.

    The key is the column that holds the ids of the orders, whatever it is called; the others go by their names.

    Args:
        source: the table.
        schema: its contract.
        given: `products.price` -> column, which stands where the source has the column.
        ids: values of the key that the orders have.
    """
    sample = _Sample.of(source)
    said = given or {}
    columns = {name: said.get(f"{schema.name}.{name}", said.get(name)) for name in schema.names}
    taken: dict[str, tuple[str, Because]] = {
        name: (column, "given") for name, column in columns.items() if column in source.columns
    }
    (key,) = schema.key
    shared = _shared_ids(source, ids)
    best = max(shared.values(), default=0.0)
    names = {name: SYNONYMS.get(name, ()) for name in schema.names} | {c.NAME: _NAMES_IN.get(schema.name, ())}
    wanted: tuple[tuple[Because, Mapping[str, Sequence[str]]], ...] = (
        ("same name", {name: (name,) for name in schema.names}),
        ("known name", names),
        ("similar name", {key: (key, *names[key])}),
    )
    for because, spelt in wanted:
        for name, spellings in spelt.items():
            used = {column for column, _ in taken.values()}
            less = {column for column in sample.columns if name == key and shared[column] < best} if best else set()
            column = None if name in taken else _named(sample, spellings, because, used | less, name)
            if column is not None:
                taken[name] = (column, because)
    if key not in taken and best >= _LEAST_SHARED:
        taken[key] = (max(shared, key=lambda column: shared[column]), "contents")
    return tuple(
        Proposal(f"{schema.name}.{name}", *taken[name], sample.examples(taken[name][0]))
        for name in schema.names
        if name in taken
    )


def sample_ids(source: TableSource, column: str) -> tuple[str, ...]:
    """Return some values of a column of ids as text."""
    if column not in source.columns:
        return ()
    few = source.table.select(id=as_text(source.table[column])).distinct().order_by("id").limit(_IDS)
    return tuple(str(value) for value in few.to_pyarrow()["id"].to_pylist() if value is not None)


def _shared_ids(source: TableSource, ids: Sequence[str]) -> dict[str, float]:
    """Which share of some ids stands in each column."""
    if not ids:
        return dict.fromkeys(source.columns, 0.0)
    table = source.table
    texts = {column: as_text(table[column]) for column in source.columns}
    found = {f"of {column}": text.nunique(where=text.isin(ids)) for column, text in texts.items()}
    item = table.agg(**found).to_pyarrow().to_pylist()[0]
    return {column: item[f"of {column}"] / len(ids) for column in source.columns}


_NAMES = (*ORDERS.names, *INSTEAD.values(), *CARRIED_PRODUCT_COLUMNS, *CARRIED_ACCOUNT_COLUMNS)
_AMOUNTS = {c.QUANTITY, c.UNIT_PRICE, c.DISCOUNT, c.COST, c.PRICE, c.STOCK, *INSTEAD.values()}
_NOT_NEGATIVE = {c.UNIT_PRICE, c.DISCOUNT, c.PRICE}


def _names_in_order() -> Iterable[tuple[Because, Mapping[str, Sequence[str]]]]:
    """What to look for, the surest first, over all columns before the next kind of evidence."""
    yield "same name", {name: (name,) for name in _NAMES}
    yield "known name", {name: SYNONYMS.get(name, ()) for name in _NAMES}
    yield "similar name", {name: (name, *SYNONYMS.get(name, ())) for name in ORDERS.required}


def _named(sample: _Sample, spellings: Sequence[str], because: Because, taken: set[str], name: str) -> str | None:
    free = {normalise(column): column for column in sample.columns if column not in taken and sample.fits(column, name)}
    for spelling in spellings:
        if spelling in free:
            return free[spelling]
        near = difflib.get_close_matches(spelling, free, n=1, cutoff=_SIMILAR) if because == "similar name" else []
        if near:
            return free[near[0]]
    return None


class _Sample:
    """The first rows of a source as text, and what can be read in each column."""

    def __init__(self, texts: pd.DataFrame, numbers: pd.DataFrame, times: Mapping[str, float]) -> None:
        self.texts = texts
        self.columns = list(texts.columns)
        self.times = times
        self.numbers = numbers

    @classmethod
    def of(cls, source: TableSource) -> _Sample:
        """The sample of a source."""
        head = source.table.select(*source.columns).limit(_SAMPLE_ROWS)
        texts = head.mutate(**{name: head[name].cast("string") for name in source.columns}).to_pandas()
        numbers = _numbers_of(head, source.columns).to_pandas()
        few = head.limit(_TIME_ROWS)
        shaped = [name for name in source.columns if texts[name].str.match(_TIME_SHAPE).mean() >= _HALF]
        shares = few.agg(n=few.count(), **{f"of {name}": _time_share(few[name]) for name in shaped})
        found = shares.to_pyarrow().to_pylist()[0]
        return cls(texts, numbers, {name: float(found.get(f"of {name}") or 0.0) for name in source.columns})

    def examples(self, column: str) -> tuple[str, ...]:
        """The first three different values."""
        return tuple(str(value) for value in self.texts[column].dropna().unique()[:3])

    def numeric_share(self, column: str) -> float:
        """Which share of the values that are there are numbers."""
        there = self.texts[column].notna()
        return float(self.numbers[column][there].notna().mean()) if there.any() else 0.0

    def fits(self, column: str, name: str) -> bool:
        """Whether most values can be of the type that a contract's column has."""
        if name in (c.ORDERED_AT, c.CREATED_AT):
            return self.times[column] >= _HALF
        if name in _AMOUNTS:
            return self._share(self.numbers[column] >= (0 if name in _NOT_NEGATIVE else -np.inf), column) >= _HALF
        if name in (c.ACTIVE, c.IS_KEY_ACCOUNT, c.DO_NOT_OFFER):
            return self._share(self.texts[column].str.lower().isin(BOOLEAN_WORDS), column) >= _HALF
        if name == c.STATUS:
            return self._share(self.texts[column].str.strip().str.lower().isin(STATUS_WORDS), column) >= _HALF
        return name not in _CODE_COLUMNS or self.times[column] < _MOST or self.numeric_share(column) >= _MOST

    def _share(self, holds: pd.Series, column: str) -> float:
        there = self.texts[column].notna()
        return float(holds[there].mean()) if there.any() else 0.0

    def one_a_group(self, group: str, column: str) -> float:
        """Which share of the rows has the first value of its group."""
        first = self.texts.groupby(group, sort=False, dropna=True)[column].transform("first")
        there = self.texts[group].notna() & self.texts[column].notna()
        return float((first[there] == self.texts[column][there]).mean()) if there.any() else 0.0

    def distinct(self, column: str) -> int:
        """How many different values there are."""
        return int(self.texts[column].nunique())


def _numbers_of(head: ibis.Table, columns: Sequence[str]) -> ibis.Table:
    """Each column read as numbers; one whose values can be read both ways is none until somebody says how."""
    decimals = detect_decimals_apart(head, columns)
    return head.select(**{name: as_number(head[name], decimals.get(name)) for name in columns})


def _time_share(values: ibis.Value) -> ibis.Value:
    """Which share of the values one way of writing times can read; plain numbers are not taken for times."""
    if values.type().is_numeric() or values.type().is_boolean():
        return ibis.literal(0.0)
    counts = [as_time(values).count(), *(as_time(values, form).count() for form in FORMATS)]
    return ibis.greatest(*counts) / values.count().nullif(0)


def _by_contents(sample: _Sample, taken: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}

    def free() -> list[str]:
        used = {*taken.values(), *found.values()}
        return [column for column in sample.columns if column not in used and sample.distinct(column) > 0]

    def settle(name: str, candidates: Sequence[str]) -> None:
        if name not in taken and name not in found and candidates:
            found[name] = candidates[0]

    settle(c.ORDERED_AT, [column for column in free() if sample.times[column] >= _MOST])
    # A time whose values nobody can read still tells which rows are of one order.
    time = taken.get(c.ORDERED_AT) or found.get(c.ORDERED_AT) or _named_like_a_time(free())
    if time is not None:
        settle(c.ORDER_ID, [column for column in _orders(sample, free(), time) if column != time])
    order = taken.get(c.ORDER_ID) or found.get(c.ORDER_ID)
    if order is not None:
        settle(c.ACCOUNT_ID, [column for column in _accounts(sample, free(), order) if column != time])
    settle(c.QUANTITY, _quantities(sample, free(), order))
    settle(c.UNIT_PRICE, _prices(sample, free(), order))
    if order is not None:
        settle(c.PRODUCT_ID, _products(sample, free(), order))
    return {name: found[name] for name in (c.ORDERED_AT, *_CODE_COLUMNS, c.QUANTITY, c.UNIT_PRICE) if name in found}


def _named_like_a_time(free: Sequence[str]) -> str | None:
    return next((column for column in free if normalise(column) in (c.ORDERED_AT, *SYNONYMS[c.ORDERED_AT])), None)


def _orders(sample: _Sample, free: Sequence[str], time: str) -> list[str]:
    """Values that have one time each and several lines: the finest first."""
    n_rows = len(sample.texts)
    fine = [
        column for column in free if 1 < sample.distinct(column) < n_rows and sample.one_a_group(column, time) >= _ALIKE
    ]
    return sorted(fine, key=sample.distinct, reverse=True)


def _accounts(sample: _Sample, free: Sequence[str], order: str) -> list[str]:
    """Values of which an order has one: the most different first, as regions and channels are one an order too."""
    single = [column for column in free if sample.distinct(column) > 1 and sample.one_a_group(order, column) >= _ALIKE]
    return sorted(single, key=sample.distinct, reverse=True)


def _quantities(sample: _Sample, free: Sequence[str], order: str | None) -> list[str]:
    """Numbers that differ within orders and are whole: the fewest different values first."""
    numbers = [column for column in _numbers(sample, free, order) if _is_whole(sample, column)]
    return sorted(numbers, key=sample.distinct)


def _prices(sample: _Sample, free: Sequence[str], order: str | None) -> list[str]:
    """Numbers that differ within orders: those with fractions first."""
    return sorted(_numbers(sample, free, order), key=lambda column: _is_whole(sample, column))


def _numbers(sample: _Sample, free: Sequence[str], order: str | None) -> list[str]:
    """Numbers that differ within orders; where no order is known those with few values, which no ids have."""
    return [
        column
        for column in free
        if sample.numeric_share(column) >= _MOST
        and (sample.one_a_group(order, column) < _ALIKE if order is not None else _is_amount(sample, column))
    ]


def _is_amount(sample: _Sample, column: str) -> bool:
    """Whether numbers are no ids: they have fractions, or come again a hundred times each."""
    return not _is_whole(sample, column) or sample.distinct(column) * _AGAIN <= len(sample.texts)


def _is_whole(sample: _Sample, column: str) -> bool:
    numbers = sample.numbers[column].dropna()
    return bool((numbers == numbers.round()).all())


def _products(sample: _Sample, free: Sequence[str], order: str) -> list[str]:
    """Values that differ within orders and come again in others: the shortest text first, a code before its name."""
    several = [
        column
        for column in free
        if 1 < sample.distinct(column) < len(sample.texts) and sample.one_a_group(order, column) < _ALIKE
    ]
    many = max((sample.distinct(column) for column in several), default=0)
    likely = [column for column in several if sample.distinct(column) >= many / 2]
    return sorted(likely, key=lambda column: float(sample.texts[column].str.len().mean()))
