"""Bundles with a right seal and wrong content, tried one after the other; as a program it is the child that may die.

`python -m tests.bundle.hostile_bundles FOLDER REQUESTS UNCHECKED` reads numbers of mutations from standard input and
writes, for each, a line when it begins and a line of what came of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recsys.bundle.arrow import write_table
from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import FACTS, MANIFEST, digest
from recsys.bundle.save import save_bundle
from recsys.errors import OfferEngineError
from recsys.offer_model.column_rules import columns_of
from recsys.offer_model.tables import OfferModel
from recsys.offer_model.utf8_column import Utf8Column
from serving.models.exercise import exercise
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model, with_price_breaks

TABLES = tuple(table.name for table in fields(OfferModel) if table.name != "facts")
NUMBERS = (-1, 0, 1, 2**31 - 1, -(2**31), 2**32, 2**53, 2**63 - 1, -(2**63), 2**62 + 7, "rows", "rows+1")
FLOATS = (np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, 5e-324, 1e-45, 1.7e308, -1.7e308, 3.4e38, -3.4e38, 1e12)
JSON_VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    "",
    "\x00",
    [],
    {},
    "x" * 10_000,
    True,
)


class Mutation(NamedTuple):
    """One wrong bundle."""

    label: str
    apply: Callable[[Path], None]


def base() -> OfferModel:
    """The model that all of them are made from: some prices unknown, some accounts without a candidate."""
    rng = np.random.default_rng(5)
    model = with_price_breaks(synthetic_model(SyntheticModelConfig(n_accounts=30, n_products=60), rng), rng)
    price = np.where(np.arange(60) % 7 == 0, np.nan, model.products.price)
    return replace(model, products=replace(model.products, price=price))


MODEL = base()


def mutations() -> tuple[Mutation, ...]:
    """Return all of them, always in the same order."""
    found: list[Mutation] = []
    for table in TABLES:
        for column in columns_of(type(getattr(MODEL, table))):
            values = getattr(getattr(MODEL, table), column.name)
            changes = texts_of(values) if isinstance(values, Utf8Column) else numbers_of(values)
            for label, changed in changes:
                write = partial(write_column, table=table, column=column.name, values=changed)
                found.append(Mutation(f"{table}.{column.name}: {label}", write))
        for label, rows in rows_of(len(getattr(getattr(MODEL, table), column.name))):
            found.append(Mutation(f"{table}: {label}", partial(write_rows, table=table, rows=rows)))
    found += [
        Mutation(f"ranges of {owner}.{prefix}: {label}", partial(write_ranges, owner=owner, prefix=prefix, ends=ends))
        for owner, prefix in RANGES
        for label, ends in ENDS.items()
    ]
    rng = np.random.default_rng(17)
    for table in TABLES:
        found += [
            Mutation(f"{table}.arrow: byte {at}", partial(flip, name=f"tables/{table}.arrow", at=float(at)))
            for at in rng.random(12)
        ]
        found.append(Mutation(f"{table}.arrow: cut", partial(cut, name=f"tables/{table}.arrow")))
    found += [
        Mutation(f"{name} {field} == {str(value)[:20]}", partial(write_json, name=name, field=field, value=value))
        for name, names in ((FACTS, type(MODEL.facts).model_fields), (MANIFEST, ("warm_up", "ranking", "as_of")))
        for field in names
        for value in JSON_VALUES
    ]
    return tuple(found)


RANGES = (
    *(("products", prefix) for prefix in ("rules", "cart", "ladder", "substitutes")),
    *(("accounts", prefix) for prefix in ("candidates", "owned")),
    ("segments", "fallback"),
)
ENDS = {
    "start + count overflows": (2**63 - 2**30, 2**31 - 1),
    "far away": (2**40, 1),
    "just behind": ("rows", 1),
    "below": (-(2**40), 2),
}


def write_ranges(folder: Path, owner: str, prefix: str, ends: tuple[Any, int]) -> None:
    start, count = ends
    if start == "rows":
        start = len(getattr(getattr(MODEL, prefix), fields(getattr(MODEL, prefix))[0].name))
    table = getattr(MODEL, owner)
    starts, counts = getattr(table, f"{prefix}_start"), getattr(table, f"{prefix}_count")
    changed = {f"{prefix}_start": np.full_like(starts, start), f"{prefix}_count": np.full_like(counts, count)}
    write_table(replace(table, **changed), folder / "tables" / f"{owner}.arrow")


def numbers_of(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield wrong columns of numbers: extremes at one place and everywhere, another order, other types."""
    raw = values.view(np.uint8) if values.dtype == np.bool_ else values
    low, high = (-np.inf, np.inf) if raw.dtype.kind == "f" else (np.iinfo(raw.dtype).min, np.iinfo(raw.dtype).max)
    rows = {"rows": len(raw), "rows+1": len(raw) + 1}
    for extreme in FLOATS if raw.dtype.kind == "f" else NUMBERS:
        value = rows.get(extreme, extreme) if isinstance(extreme, str) else extreme
        if raw.dtype.kind != "f" and not low <= value <= high:
            continue
        with np.errstate(over="ignore"):
            for place, where in (("first", 0), ("middle", len(raw) // 2), ("last", -1), ("all", slice(None))):
                changed = raw.copy()
                changed[where] = value
                yield f"{place} = {extreme}", changed.view(values.dtype)
    yield "reversed", raw[::-1].copy().view(values.dtype)
    yield "shuffled", np.random.default_rng(3).permutation(raw).view(values.dtype)
    yield "first again", np.concatenate([raw[:1], raw[:-1]]).view(values.dtype)
    for dtype in (np.float64, np.float32, np.int64, np.int8, np.uint32):
        if dtype != raw.dtype:
            with np.errstate(invalid="ignore"):
                yield f"as {np.dtype(dtype)}", raw.astype(dtype)


def texts_of(texts: Utf8Column) -> Iterator[tuple[str, Utf8Column]]:
    """Yield wrong columns of strings: offsets that fall or leave the data, bytes that are no UTF-8, another order."""
    for extreme in (-1, 0, 2**31 - 1, 2**63 - 1, -(2**63), len(texts.data), len(texts.data) + 1):
        for place in (0, len(texts) // 2, -1):
            offsets = texts.offsets.copy()
            offsets[place] = extreme
            yield f"offset {place} = {extreme}", replace(texts, offsets=offsets)
    for byte in (0xFF, 0x80, 0xC0, 0xED, 0x00):
        for place in (0, len(texts.data) // 2, len(texts.data) - 1):
            data = texts.data.copy()
            if len(data):
                data[place] = byte
            yield f"byte {place} = {byte:#x}", replace(texts, data=data)
    every = list(texts)
    yield "reversed", Utf8Column.of(every[::-1])
    yield "all alike", Utf8Column.of(every[:1] * len(every))
    yield "all empty", Utf8Column.of([""] * len(every))
    yield "very long", Utf8Column.of(["x" * 100_000, *every[1:]])
    yield "offsets permuted", replace(texts, offsets=texts.offsets[::-1].copy())


def rows_of(n: int) -> Iterator[tuple[str, Any]]:
    """Yield rows that make a table too short, too long or another order of itself."""
    for label, rows in {
        "no row": np.arange(0),
        "last row gone": np.arange(max(n - 1, 0)),
        "half": np.arange(n // 2),
        "one more": np.append(np.arange(n), 0),
        "twice": np.tile(np.arange(n), 2),
        "reversed": np.arange(n)[::-1],
        "shuffled": np.random.default_rng(4).permutation(n),
    }.items():
        yield label, rows[rows < n]


def write_column(folder: Path, table: str, column: str, values: Any) -> None:
    old = getattr(getattr(MODEL, table), column)
    if isinstance(values, Utf8Column) and values.data.size == old.data.size:  # Arrow's writer would refuse some of them
        file = folder / "tables" / f"{table}.arrow"
        content = file.read_bytes().replace(old.offsets.tobytes(), values.offsets.tobytes(), 1)
        file.write_bytes(content.replace(old.data.tobytes(), values.data.tobytes(), 1))
        return
    write_table(replace(getattr(MODEL, table), **{column: values}), folder / "tables" / f"{table}.arrow")


def write_rows(folder: Path, table: str, rows: Any) -> None:
    old = getattr(MODEL, table)
    taken = {field.name: take(getattr(old, field.name), rows) for field in fields(old)}
    write_table(replace(old, **taken), folder / "tables" / f"{table}.arrow")


def take(values: Any, rows: Any) -> Any:
    return Utf8Column.of([values[row] for row in rows.tolist()]) if isinstance(values, Utf8Column) else values[rows]


def flip(folder: Path, name: str, at: float) -> None:
    """Change one byte of what Arrow says of its columns, or of the columns."""
    content = bytearray((folder / name).read_bytes())
    content[int(at * len(content))] ^= 0xFF
    (folder / name).write_bytes(bytes(content))


def cut(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def write_json(folder: Path, name: str, field: str, value: Any) -> None:
    said = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**said, field: value}))


def seal(folder: Path) -> None:
    """Write digests and sizes anew, so that every file is what the manifest says."""
    said = json.loads((folder / MANIFEST).read_text())
    for file in said["files"]:
        place = folder / file["name"]
        file |= {"size": place.stat().st_size, "sha256": digest(place)}
    (folder / MANIFEST).write_text(json.dumps(said))


def attempt(folder: Path, n_requests: int, *, checked: bool) -> str:
    """Return whether a bundle was refused or answered; whatever else is raised goes on."""
    try:
        bundle = load_bundle(folder, verify=checked)
    except OfferEngineError as error:
        return f"refused: {error}"
    return f"answered: {exercise(bundle, n_requests)}"


def main(folder: Path, n_requests: int, unchecked: bool) -> None:
    save_bundle(folder, MODEL)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    every = mutations()
    for line in sys.stdin:
        print(json.dumps({"begins": int(line)}), flush=True)
        for path, content in kept.items():
            path.write_bytes(content)
        every[int(line)].apply(folder)
        seal(folder)
        try:
            came = attempt(folder, n_requests, checked=not unchecked)
        except Exception as error:  # noqa: BLE001 - it is what the test looks for
            came = f"raised: {type(error).__name__}: {error}"
        print(json.dumps({"ends": int(line), "came": came}), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as scratch:
        main(Path(scratch) / "bundle", int(sys.argv[2]), sys.argv[3] == "unchecked")
