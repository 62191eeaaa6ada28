"""A ladder as a CSV file that a person edits, and the choice between that file and a ladder built from the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

import pandas as pd

from recsys.contracts import columns as c
from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.errors import DataError, EmptyDataError, MissingColumnError, SourceNotFoundError
from recsys.ladder.edges import EDGE_COLUMNS, Ladder, LadderConfig, Origin, build_ladder, complete_edges

_REQUIRED: Final = (c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID)
_SHOWN: Final = 3


def write_ladder(ladder: Ladder, products: pd.DataFrame, path: Path) -> None:
    """Write a ladder as CSV, with the names of both rungs beside their ids, for a person to edit.

    Rows may be deleted, added (two ids are enough) and given another reason. Counts and ratios are for reading only:
    `read_ladder` takes them from the data again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with_names(ladder, products).to_csv(path, index=False, float_format="%.6g")


def with_names(ladder: Ladder, products: pd.DataFrame) -> pd.DataFrame:
    """Return the edges with the names of both rungs beside their ids."""
    names = products.reindex(columns=[c.PRODUCT_ID, c.NAME]).drop_duplicates(c.PRODUCT_ID).set_index(c.PRODUCT_ID)
    table = ladder.edges.assign(
        **{
            c.FROM_NAME: ladder.edges[c.FROM_PRODUCT_ID].map(names[c.NAME]).to_numpy(),
            c.TO_NAME: ladder.edges[c.TO_PRODUCT_ID].map(names[c.NAME]).to_numpy(),
        }
    )
    rest = [name for name in EDGE_COLUMNS if name not in _REQUIRED]
    return table[[*_REQUIRED, c.FROM_NAME, c.TO_NAME, *rest]]


def read_ladder(path: Path, products: pd.DataFrame, history: History, config: LadderConfig) -> Ladder:
    """Return the ladder of an edited CSV file; ratios and climbs are counted on the history that is given.

    Only `from_product_id` and `to_product_id` are needed; `origin` is curated where it is empty.

    Raises:
        SourceNotFoundError: no such file.
        EmptyDataError: the file is empty.
        MissingColumnError: an id column is absent.
        DataError: rows with an empty or unknown id, an edge to itself, twice or in a circle, or an unknown origin;
            the message names the row numbers of the file.
    """
    table = _read_text(path)
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise MissingColumnError(
            f"{path}: columns {missing} are missing, found {list(table.columns)}; a ladder needs {list(_REQUIRED)}"
        )
    table = table.reindex(columns=[*_REQUIRED, c.ORIGIN, c.REASON])
    for name in (c.ORIGIN, c.REASON):
        stated = table[name].astype(object)
        table[name] = stated.where(stated.notna() & (stated != ""), "curated").to_numpy()
    _check_rows(path, table, set(products[c.PRODUCT_ID]))
    return complete_edges(table, products, history, config)


def _read_text(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise SourceNotFoundError(f"{path}: no such file; write one with write_ladder first") from None
    except pd.errors.EmptyDataError:
        raise EmptyDataError(f"{path}: the file is empty; it needs a header with {list(_REQUIRED)}") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from None
    return pd.DataFrame({name: table[name].str.strip() for name in table.columns})


def _check_rows(path: Path, table: pd.DataFrame, known: set[str]) -> None:
    lower, upper = table[c.FROM_PRODUCT_ID], table[c.TO_PRODUCT_ID]
    edges = set(zip(lower, upper, strict=True))
    mistakes = {
        "have an empty id; fill it in or delete the row": (lower == "") | (upper == ""),
        "name a product that is not in the catalogue; correct the id or delete the row": ~(
            lower.isin(known) & upper.isin(known)
        ),
        "lead from a product to itself; delete the row": lower == upper,
        "state an edge that stands in an earlier row; delete the row": table.duplicated(list(_REQUIRED)),
        "go up where another row goes down between the same products; keep one of them": pd.Series(
            [(b, a) in edges and a != b for a, b in zip(lower, upper, strict=True)], index=table.index
        ),
        f"have an origin that is none of {get_args(Origin)}; use one of these or leave it empty": ~table[c.ORIGIN].isin(
            get_args(Origin)
        ),
    }
    for rule, wrong in mistakes.items():
        if wrong.any():
            rows = [
                f"row {position + 2} ({lower.iloc[position]!r} -> {upper.iloc[position]!r})"
                for position in wrong.to_numpy().nonzero()[0][:_SHOWN]
            ]
            raise DataError(f"{path}: {int(wrong.sum())} rows {rule}; first {', '.join(rows)}")


LadderOf = Callable[[Dataset, History], Ladder]
"""Returns the ladder as it stood when some data were read."""


def ladder_from_data(config: LadderConfig) -> LadderOf:
    """Return what builds the ladder from the data themselves."""
    return lambda data, history: build_ladder(data.products, history, data.upgrades, config)


def ladder_from_file(path: Path, data: Dataset, config: LadderConfig) -> Ladder:
    """Return the ladder of an edited file; prices and climbs are counted on `data`.

    Raises:
        SourceNotFoundError: no such file.
        DataError: a row is wrong; the message names it.
    """
    return read_ladder(path, data.products, data.history().before(data.as_of), config)


def fixed_ladder(ladder: Ladder, config: LadderConfig) -> LadderOf:
    """Return what keeps the edges of a ladder and counts prices and climbs on the data of the time.

    An edge whose products the data do not know yet is left out.
    """

    def ladder_of(data: Dataset, history: History) -> Ladder:
        known = set(data.products[c.PRODUCT_ID])
        edges = ladder.edges[[c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID, c.ORIGIN, c.REASON]]
        kept = edges[edges[c.FROM_PRODUCT_ID].isin(known) & edges[c.TO_PRODUCT_ID].isin(known)]
        return complete_edges(kept.reset_index(drop=True), data.products, history, config)

    return ladder_of
