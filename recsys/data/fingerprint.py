"""What data a model was made of, in one digest that does not depend on the order of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import ibis
import ibis.expr.datatypes as dt

_SEPARATOR = "\x1f"
_NULL = "\x1e"


def fingerprint_rows(table: ibis.Table, columns: Sequence[str]) -> str:
    """Return a SHA-256 over the rows of a table, whatever their order.

    Each row's MD5 gives a 64-bit number; the sum over all rows, their number and the column names are hashed. MD5
    stands here because its value, unlike that of DuckDB's own hash, is the same in every version; it tells data
    apart, it does not guard against forgery.
    """
    texts = [table[name].cast("string").fill_null(_NULL) for name in columns]
    digests = table.select(number=_md5_number_lower(ibis.literal(_SEPARATOR).join(texts)))
    sums = digests.agg(rows=digests.count(), total=digests["number"].sum().cast("string"))
    item = sums.to_pyarrow().to_pylist()[0]
    return digest_of([*columns, str(item["rows"]), str(item["total"])])


def digest_of(parts: Sequence[str]) -> str:
    """Return the SHA-256 of some texts in order."""
    return hashlib.sha256(_SEPARATOR.join(parts).encode()).hexdigest()


@ibis.udf.scalar.builtin(name="md5_number_lower", signature=((dt.string,), dt.uint64))  # type: ignore[untyped-decorator]
def _md5_number_lower(text: str) -> int: ...  # type: ignore[empty-body]
