"""A bundle whose seal is right and whose content is wrong: each rule of a column refuses what breaks it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import MANIFEST, digest
from recsys.bundle.save import save_bundle
from recsys.errors import BundleCorruptError
from recsys.offer_model.column_rules import CountOf, columns_of
from recsys.offer_model.tables import OfferModel
from recsys.offer_model.utf8_column import Utf8Column
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_accounts=30, n_products=60), np.random.default_rng(5))


def changed(table: str, column: str, change: Callable[[Any], Any]) -> OfferModel:
    old = getattr(MODEL, table)
    values = getattr(old, column)
    new = change(values if isinstance(values, Utf8Column) else values.copy())
    return replace(MODEL, **{table: replace(old, **{column: new})})


def put(row: int, value: object) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values[row] = value
        return values

    return change


def all_of(value: object) -> Callable[[Any], Any]:
    return lambda values: np.full_like(values, value)


@pytest.mark.parametrize(
    ("table", "column", "change", "sentence"),
    [
        (
            "accounts",
            "candidates_start",
            put(3, 2**63 - 1),
            "candidates_start is 9223372036854775807 in row 3, must be",
        ),
        ("accounts", "candidates_start", put(3, -1), "candidates_start is -1 in row 3"),
        ("accounts", "candidates_count", put(0, -1), "accounts.candidates_count: -1, must be 0 or more"),
        ("accounts", "owned_count", put(29, 6), "the rows end at 151, must end with owned at 150"),
        ("products", "rules_count", put(59, 2**31 - 1), "must end with rules at 600"),
        ("segments", "fallback_start", lambda starts: starts[::-1].copy(), "fallback_start is"),
        ("products", "family", put(0, 6), r"products.family: rows from -1 to 6, must be in \[-1, 6\)"),
        ("products", "category", put(0, -2), r"rows from -2 to 4, must be in \[-1, 5\)"),
        ("evidence", "segment", put(0, 3), r"evidence.segment: rows from 0 to 3, must be in \[0, 3\)"),
        ("candidates", "from_product", put(0, 0), "-1 in row 1, must stand before the others"),
        ("owned", "product", all_of(7), "7 follows 7 in row 1, must be larger within one row of accounts"),
        ("owned", "n_orders", put(0, 2**31 - 1), "owned.n_orders: 2147483647 in row 0, must be at most"),
        ("cart", "consequent", all_of(7), "7 follows 7 in row 1, must be larger within one row of products"),
        ("cart", "weight", put(0, np.nan), "cart.weight: numbers from nan to nan"),
        ("products", "cart_prior", put(0, np.inf), "products.cart_prior: numbers from 0.0 to inf"),
        ("products", "price", put(0, np.inf), r"must be in \[0, 1000000000000.0\] or NaN"),
        ("candidates", "probability", put(0, 1.5), r"numbers from .* to 1.5, must be in \[0, 1\]"),
        ("candidates", "probability", put(0, np.nan), "candidates.probability: numbers from nan to nan"),
        ("cart_curve", "score", all_of(0.5), "cart_curve.score: .* follows .* in row 1, must be larger than it"),
        ("cart_curve", "probability", lambda values: values[::-1].copy(), "must be no smaller than it"),
        ("rules", "relation", put(0, 3), r"rules.relation: numbers from 1 to 3, must be in \[0, 2\]"),
        ("products", "active", lambda flags: (flags.view(np.uint8) * 7).view(np.bool_), "a flag of 7, must be 0 or 1"),
        ("products", "price", lambda values: values[:-1], "columns of lengths"),
        (
            "products",
            "price",
            lambda values: values.astype(np.float32),
            "type float32 in 1 dimensions, must be float64",
        ),
        ("accounts", "ids", lambda ids: Utf8Column.of([*ids][::-1]), "accounts.ids: .* must be larger than it"),
        ("accounts", "ids", lambda ids: Utf8Column.of([ids[0], *ids][:-1]), "'A0000000' follows 'A0000000' in row 1"),
        ("products", "names", lambda names: replace(names, data=names.data | 0x80), "must be UTF-8"),
        ("products", "names", lambda names: replace(names, offsets=names.offsets * 2**40), "must be UTF-8"),
        ("products", "names", lambda names: replace(names, offsets=names.offsets[::-1].copy()), "must be UTF-8"),
    ],
)
def test_a_column_that_breaks_its_rule_is_named(
    table: str, column: str, change: Callable[[Any], Any], sentence: str
) -> None:
    with pytest.raises(BundleCorruptError, match=sentence):
        changed(table, column, change).check()


def test_a_model_that_breaks_a_rule_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(BundleCorruptError, match=r"fallback\.probability"):
        save_bundle(tmp_path / "bundle", changed("fallback", "probability", all_of(np.nan)))
    assert not (tmp_path / "bundle").exists()


def test_every_column_that_a_request_reads_by_address_has_a_rule() -> None:
    """Starts are checked with their counts, flags by their type, texts as UTF-8; the others state their range."""
    bare = {
        f"{table.name}.{column.name}"
        for table in fields(MODEL)
        if table.name != "facts"
        for column in columns_of(type(getattr(MODEL, table.name)))
        if not column.rules and column.dtype not in {None, np.dtype(np.bool_)}
    }
    counted = {
        f"{rule.owner}.{rule.start}"
        for table in fields(MODEL)
        if table.name != "facts"
        for column in columns_of(type(getattr(MODEL, table.name)))
        for rule in column.rules
        if isinstance(rule, CountOf)
    }
    assert bare == counted
    assert len(counted) == 7


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "bundle", MODEL)
    return tmp_path / "bundle"


def seal(bundle: Path, **changes: object) -> None:
    """Write the manifest anew, so that every digest and size is right."""
    path = bundle / MANIFEST
    said = json.loads(path.read_text())
    for file in said["files"]:
        place = bundle / file["name"]
        file |= {"size": place.stat().st_size, "sha256": digest(place)}
    path.write_text(json.dumps({**said, **changes}))


def test_an_arrow_file_that_states_more_rows_than_it_holds_is_refused(bundle: Path) -> None:
    file = bundle / "tables" / "substitutes.arrow"
    n_rows, more = len(MODEL.substitutes.product), 10**9
    stated = file.read_bytes().replace(struct.pack("<q", n_rows), struct.pack("<q", more))
    assert stated != file.read_bytes()
    file.write_bytes(stated)
    seal(bundle)
    with pytest.raises(BundleCorruptError, match="too small in array of type int32 and length 1000000000"):
        load_bundle(bundle)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_arrow_file_is_refused(bundle: Path, compression: str) -> None:
    file = bundle / "tables" / "owned.arrow"
    table = pa.ipc.open_file(file.read_bytes()).read_all()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    seal(bundle)
    with pytest.raises(BundleCorruptError, match="compressed, or not aligned, must be as it is mapped"):
        load_bundle(bundle)


RANKING = {"repeat_prior_orders": 1e7, "recent_purchases": 10**18, "least_buyers": 10**400, "relevance_floor": np.nan}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"as_of": "soon"}, "as_of == 'soon'"),
        ({"as_of": "0001-01-01T00:00:00"}, "must be a moment from 1900 to 2200"),
        ({"horizon_days": 0}, "horizon_days == 0"),
        ({"horizon_days": 2**63}, "horizon_days == 9223372036854775808"),
        *(({"ranking": {name: value}}, rf"ranking\.{name}") for name, value in RANKING.items()),
        ({"ranking": {"diversity": {"free_ranks": 10**400}}}, r"ranking\.diversity\.free_ranks"),
        ({"warm_up": [{}] * 1_001}, "at most 1000 items"),
        ({"currency": "\ud800"}, "not readable as JSON .*hex escape"),
        ({"files": [{"name": "a" * 5_000, "size": 0, "sha256": "0" * 64}]}, "not readable .File name too long"),
    ],
)
def test_a_manifest_out_of_bounds_is_a_sentence(bundle: Path, changes: dict[str, object], sentence: str) -> None:
    seal(bundle, **changes)
    with pytest.raises(BundleCorruptError, match=sentence):
        load_bundle(bundle)


def test_a_manifest_without_bottom_is_a_sentence(bundle: Path) -> None:
    path = bundle / MANIFEST
    path.write_text(path.read_text().replace('"config": {}', f'"config": {"[" * 100_000}{"]" * 100_000}'))
    with pytest.raises(BundleCorruptError, match="not readable as JSON"):
        load_bundle(bundle)


@pytest.mark.parametrize("facts", ['{"as_of": "2026-01-01", "horizon_days": 0}', "{", "[" * 100_000])
def test_facts_out_of_bounds_are_a_sentence(bundle: Path, facts: str) -> None:
    (bundle / "facts.json").write_text(facts)
    seal(bundle)
    with pytest.raises(BundleCorruptError, match=r"facts\.json"):
        load_bundle(bundle)
