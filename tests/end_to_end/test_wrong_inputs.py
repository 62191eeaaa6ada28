"""What a user gets wrong is answered with one sentence on standard error and exit 1, never a traceback."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from recsys.cli import main
from tests.support.training_runs import registry_in

Numbers: TypeAlias = NDArray[np.int_]


def _lines(**changes: Any) -> pd.DataFrame:
    """Forty days of which nothing can be learned."""
    row = np.arange(40)
    return _sold(row, account=row % 5, product=row % 7, hours=24).assign(**changes)


def _learnable(**changes: Any) -> pd.DataFrame:
    """Half a year in which twenty accounts come to buy products that they did not buy before."""
    row = np.arange(400)
    return _sold(row, account=row // 2 % 20, product=(row * 7 + row // 40) % 30, hours=12).assign(**changes)


def _sold(row: Numbers, *, account: Numbers, product: Numbers, hours: int) -> pd.DataFrame:
    """Orders of two lines, a line every so many hours."""
    return pd.DataFrame(
        {
            "order_id": [f"o{number // 2}" for number in row],
            "account_id": [f"a{number}" for number in account],
            "product_id": [f"p{number}" for number in product],
            "ordered_at": pd.date_range("2024-01-01", periods=len(row), freq=f"{hours}h").astype(str),
            "quantity": 1,
            "unit_price": 2.5,
        }
    )


def _fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    err = capsys.readouterr().err
    assert stop.value.code == 1, err
    sentences = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1
    assert "Traceback" not in err
    return sentences[0]


def _train(frame: pd.DataFrame | str, folder: Path, *more: str) -> list[str]:
    file = folder / "orders.csv"
    if isinstance(frame, str):
        file.write_text(frame)
    else:
        frame.to_csv(file, index=False)
    return ["train", "--orders", str(file), "--tracking-uri", registry_in(folder), *more]


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # without --tracking-uri the run is kept in the working folder
    assert "nowhere.csv" in _fails(["train", "--orders", str(tmp_path / "nowhere.csv")], capsys)


def test_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "orders.csv" in _fails(_train("", tmp_path), capsys)
    assert "orders.csv" in _fails(_train(_lines().head(0), tmp_path), capsys)


def test_missing_column_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = _fails(_train(_lines().rename(columns={"product_id": "produkt_id"}), tmp_path), capsys)
    assert "product_id" in said
    assert "produkt_id" in said


def test_text_in_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "quantity" in _fails(_train(_lines(quantity="two"), tmp_path), capsys)


def test_nothing_before_as_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "as_of" in _fails(_train(_lines(), tmp_path, "--as-of", "2023-01-01"), capsys)


def test_two_currencies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = _fails(_train(_lines(currency=["GBP", "EUR"] * 20), tmp_path), capsys)
    assert "GBP" in said
    assert "EUR" in said


def test_no_account_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no order line has an account" in _fails(_train(_lines(account_id=None), tmp_path), capsys)


def test_unknown_preset_option_and_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "online-retail-ii" in _fails(_train(_lines(), tmp_path, "--preset", "online-retail-3"), capsys)
    assert "yesterday" in _fails(_train(_lines(), tmp_path, "--as-of", "yesterday"), capsys)
    config = tmp_path / "options.toml"
    config.write_text("[rules]\nmin_bth = 3\n")
    assert "rules.min_bth == 3" in _fails(_train(_lines(), tmp_path, "--config", str(config)), capsys)


@pytest.mark.parametrize(
    "change", [{"account_id": "only"}, {"product_id": "only"}, {"line_id": 1}], ids=["account", "product", "duplicates"]
)
def test_small_and_doubled_data_of_which_nothing_is_learned_are_refused(
    change: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _fails(_train(_lines(**change), tmp_path, "--out", str(tmp_path / "bundle")), capsys)
    assert "nothing was learned, and no model was registered" in said
    assert not (tmp_path / "bundle").exists()


def test_doubled_lines_are_rejected_and_the_others_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choose = ("--set", "next_product.ranker.objective=auto")
    with pytest.raises(SystemExit) as stop:
        main(_train(_learnable(line_id=1), tmp_path, "--out", str(tmp_path / "bundle"), *choose))
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    assert "Registered as offers version 1" in out
    assert "Order of offers: learned from single candidates, because " in out
    assert "duplicate_line" in out
    with pytest.raises(SystemExit) as stop:
        main(["recommend", "--model", str(tmp_path / "bundle"), "--out", str(tmp_path / "offers.csv")])
    assert not stop.value.code
    assert (tmp_path / "offers.csv").exists()


def test_flipped_byte_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(_train(_learnable(), tmp_path, "--out", str(tmp_path / "bundle")))
    file = max((tmp_path / "bundle").rglob("*.arrow"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    capsys.readouterr()
    said = _fails(["recommend", "--model", str(tmp_path / "bundle"), "--out", str(tmp_path / "o.csv")], capsys)
    assert file.name in said
    assert not (tmp_path / "o.csv").exists()
    assert file.name in _fails(["serve", "--model", str(tmp_path / "bundle"), "--port", "0"], capsys)


def test_port_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in _fails(["serve", "--model", str(tmp_path), "--port", port], capsys)


def test_unknown_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert "models:/offers@champion" in _fails(["serve", "--tracking-uri", uri, "--port", "0"], capsys)
    out = str(tmp_path / "o.csv")
    assert "nowhere" in _fails(["recommend", "--model", str(tmp_path / "nowhere"), "--out", out], capsys)
