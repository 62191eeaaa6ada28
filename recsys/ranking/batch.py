"""The offers of every account of a bundle as one table, in blocks, written beside its place and then moved."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from recsys.contracts import columns as c
from recsys.contracts.offers import OfferRequest, Slate
from recsys.errors import ConfigError
from recsys.ranking.engine import OfferEngine

BLOCK_ACCOUNTS = 5_000

SCHEMA = pa.schema(
    [
        (c.ACCOUNT_ID, pa.string()),
        (c.RANK, pa.int32()),
        (c.PRODUCT_ID, pa.string()),
        (c.KIND, pa.string()),
        (c.PROBABILITY, pa.float64()),
        (c.HORIZON_DAYS, pa.int32()),
        (c.EXPECTED_VALUE, pa.float64()),
        (c.SCORE, pa.float64()),
        (c.PRICE, pa.float64()),
        (c.CURRENCY, pa.string()),
        (c.TIER, pa.string()),
        (c.REASON, pa.string()),
        (c.FROM_PRODUCT_ID, pa.string()),
        (c.RANK_PROBABILITY, pa.float64()),
        (c.BOOST, pa.float64()),
        (c.MOVED_BY, pa.string()),
    ]
)
LOGGED_SCHEMA = SCHEMA.append(pa.field(c.DECISION_ID, pa.string()))

Answered = tuple[OfferRequest, Slate]
Record = Callable[[list[Answered]], list[str]]
"""Keeps the decisions of one block durably and returns their ids."""


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


def answers(
    engine: OfferEngine,
    pattern: OfferRequest,
    account_ids: Sequence[str] | None = None,
    *,
    size: int = BLOCK_ACCOUNTS,
) -> Iterator[list[Answered]]:
    """Yield the slates of some accounts, `size` at a time; None: of all the model knows, in the order of their ids."""
    ids = engine.model.accounts.ids if account_ids is None else account_ids
    for begin in range(0, len(ids), size):
        requests = [replace(pattern, account_id=ids[row]) for row in range(begin, min(begin + size, len(ids)))]
        yield [(request, engine.recommend(request)) for request in requests]


def offers_table(block: list[Answered], decision_ids: list[str] | None = None) -> pa.Table:
    """Return one row an offer of a block of slates; with `decision_ids`, parallel to the block, their column too."""
    rows = [(request.account_id, slate, offer) for request, slate in block for offer in slate.offers]
    columns: dict[str, list[object]] = {
        c.ACCOUNT_ID: [account for account, _, _ in rows],
        c.RANK: [offer.rank for _, _, offer in rows],
        c.PRODUCT_ID: [offer.product_id for _, _, offer in rows],
        c.KIND: [offer.kind for _, _, offer in rows],
        c.PROBABILITY: [offer.probability for _, _, offer in rows],
        c.HORIZON_DAYS: [slate.horizon_days for _, slate, _ in rows],
        c.EXPECTED_VALUE: [offer.expected_value for _, _, offer in rows],
        c.SCORE: [offer.score for _, _, offer in rows],
        c.PRICE: [offer.price for _, _, offer in rows],
        c.CURRENCY: [offer.currency for _, _, offer in rows],
        c.TIER: [offer.tier for _, _, offer in rows],
        c.REASON: [offer.reason for _, _, offer in rows],
        c.FROM_PRODUCT_ID: [offer.from_product_id for _, _, offer in rows],
        c.RANK_PROBABILITY: [offer.rank_probability for _, _, offer in rows],
        c.BOOST: [offer.boost for _, _, offer in rows],
        c.MOVED_BY: [offer.moved_by for _, _, offer in rows],
    }
    if decision_ids is None:
        return pa.table(columns, schema=SCHEMA)
    columns[c.DECISION_ID] = [
        decision for decision, (_, slate) in zip(decision_ids, block, strict=True) for _ in slate.offers
    ]
    return pa.table(columns, schema=LOGGED_SCHEMA)


def write_offers(path: Path, blocks: Iterable[list[Answered]], record: Record | None = None) -> int:
    """Write the offers of all blocks to `path`, Parquet or CSV by its suffix, and return how many there are.

    Nothing stands at `path` before the last row is written.

    Raises:
        ConfigError: the suffix is neither `.parquet` nor `.csv`, or the folder can't be written.
    """
    opener = _opener(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror}); name another place") from None
    os.close(handle)
    beside = Path(name)
    try:
        n_offers = _write(opener(beside, SCHEMA if record is None else LOGGED_SCHEMA), blocks, record)
        beside.chmod(0o644)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
    return n_offers


def _write(writer: _Writer, blocks: Iterable[list[Answered]], record: Record | None) -> int:
    n_offers = 0
    try:
        for block in blocks:
            table = offers_table(block, None if record is None else record(block))
            writer.write_table(table)
            n_offers += table.num_rows
    finally:
        writer.close()
    return n_offers


def _opener(path: Path) -> Callable[[Path, pa.Schema], _Writer]:
    if path.suffix == ".parquet":
        return lambda file, schema: pq.ParquetWriter(file, schema, compression="zstd")
    if path.suffix == ".csv":
        return lambda file, schema: pc.CSVWriter(str(file), schema)
    raise ConfigError(f"{path}: suffix {path.suffix!r}, must be .parquet or .csv; rename it")
