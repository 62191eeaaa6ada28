"""`offers export`, `retention` and `forget` as people call them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.cli import main
from recsys.contracts.events import EventQuery, PostedLine, forget_key
from recsys.events.store import open_store

NOW = datetime.now(UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    times = [NOW - timedelta(days=days) for days in (0, 10, 400)]
    store.append(
        [
            PostedLine(
                order_id=f"o{i}",
                line_id="1",
                product_id="P1",
                quantity=1.0,
                ordered_at=at,
                recorded_at=at,
                account_id=f"A{i % 2}",
            )
            for i, at in enumerate(times)
        ]
    )
    store.close()
    return f"sqlite:///{tmp_path}/e.db"


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == code
    told = capsys.readouterr()
    return told.out if code == 0 else told.err


def orders(url: str) -> list[str]:
    store = open_store(url)
    found = store.read(EventQuery("order_lines"))["order_id"].to_pylist()
    store.close()
    return sorted(found)


def test_export_writes_a_file_a_day(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lake"
    wanted = ("export", "--table", "order_lines", "--out", str(out), "--store", url)
    since = f"{NOW - timedelta(days=20):%Y-%m-%d}"
    assert run(capsys, *wanted, "--since", since) == f"2 rows of 2 days in {out}/order_lines\n"
    assert len(list(out.rglob("part.parquet"))) == 2
    assert run(capsys, *wanted).startswith("3 rows of 3 days")
    assert sum(pq.ParquetFile(file).metadata.num_rows for file in out.rglob("part.parquet")) == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--table", "secrets"), "--table == 'secrets', must be one of decisions, decision_offers"),
        (("--table", "outcomes", "--since", "yesterday"), "--since == 'yesterday', must be a day like 2026-03-01"),
    ],
)
def test_what_can_not_be_exported_is_a_sentence(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in run(capsys, "export", "--out", str(tmp_path), "--store", url, *options, code=1)


def test_retention_drops_what_is_old(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 order_lines" in run(capsys, "retention", "--days", "365", "--store", url)
    assert orders(url) == ["o0", "o1"]


def test_forget_erases_an_account(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Erased from the store: 2 order_lines." in run(capsys, "forget", "A0", "--store", url)
    assert orders(url) == ["o1"]
    store = open_store(url)
    assert store.read(EventQuery("forgotten"))["account_key"].to_pylist() == [forget_key("A0")] * 2
    store.close()
    assert "nothing" in run(capsys, "forget", "A0", "--store", url)
