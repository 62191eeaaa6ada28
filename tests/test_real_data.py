"""A checkout without the real data: their tests are left out, and fail only where the data were promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import real_file


def test_without_a_promise_the_test_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFFERS_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"hillstrom\.parquet: OFFERS_DATA is not set; it names the folder"):
        real_file("hillstrom.parquet")


def test_where_the_data_were_promised_a_missing_file_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFFERS_DATA", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=r"has no hillstrom\.parquet; name the folder"):
        real_file("hillstrom.parquet")
    (tmp_path / "hillstrom.parquet").touch()
    assert real_file("hillstrom.parquet") == tmp_path / "hillstrom.parquet"
