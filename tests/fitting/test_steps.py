"""The steps of a training are kept whole or not at all, and only for the same data, options and engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys.fitting.steps import CANDIDATES_FORM, FRAME_FORM, LEARNED_FORM, KeptSteps, kept_steps, steps_found
from recsys.models.candidates import Candidates


def candidates() -> Candidates:
    frame = pd.DataFrame({"account": [0, 1], "product": [3, 4], "from_product": [-1, -1]}).astype("int32")
    floats: dict[str, Any] = {
        name: pd.Series([0.1, 0.2], dtype="float32").to_numpy() for name in ("score", "probability")
    }
    ids: dict[str, Any] = {str(name): frame[name].to_numpy() for name in frame}
    return Candidates(**ids, **floats, expected_quantity=floats["score"])


def test_a_step_of_another_key_or_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": pd.Series(["a", "b"], dtype=object), "n": [1, 2], "share": [0.1, 0.3]})
    keep = KeptSteps(tmp_path, "one")
    assert keep("rules", lambda: frame, FRAME_FORM) is frame
    keep("offers", candidates, CANDIDATES_FORM)
    again = KeptSteps(tmp_path, "one")
    pd.testing.assert_frame_equal(again("rules", lambda: frame.head(0), FRAME_FORM), frame)
    read = again("offers", candidates, CANDIDATES_FORM)
    assert all((column == getattr(candidates(), name)).all() for name, column in vars(read).items())
    assert again.found == ["rules", "offers"]

    other = KeptSteps(tmp_path, "other data, options or engine")
    assert len(other("rules", lambda: frame.head(1), FRAME_FORM)) == 1
    (tmp_path / "rules" / "frame.parquet").write_bytes(b"damaged")
    assert len(KeptSteps(tmp_path, "other data, options or engine")("rules", lambda: frame, FRAME_FORM)) == 2


def test_what_holds_a_type_that_is_not_listed_is_made_each_time(tmp_path: Path) -> None:
    keep = KeptSteps(tmp_path, "key")
    for made in ([tmp_path], [tmp_path / "again"]):
        assert keep("a part of another package", partial(list, made), LEARNED_FORM) == made
    assert list(tmp_path.iterdir()) == []


def _fail_after_a_step(folder: Path, frame: pd.DataFrame) -> None:
    with kept_steps(folder, "key") as keep:
        keep("rules", lambda: frame, FRAME_FORM)
        raise ZeroDivisionError


def test_two_trainings_with_one_folder_do_not_share_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1]})
    with kept_steps(tmp_path / "steps", "key") as first:
        first("rules", lambda: frame, FRAME_FORM)
        (tmp_path / "steps" / ".offers.half").mkdir()  # as a process leaves it that is killed while it writes
        with kept_steps(tmp_path / "steps", "key") as second:
            other = frame.head(0)
            assert second("rules", lambda: other, FRAME_FORM) is other
        assert (tmp_path / "steps" / "rules").is_dir()
        with pytest.raises(ZeroDivisionError):
            _fail_after_a_step(tmp_path / "other", frame)
    assert not (tmp_path / "steps").exists()
    with kept_steps(tmp_path / "other", "key") as again:
        again("rules", lambda: frame.head(0), FRAME_FORM)
        assert steps_found(again) == ["rules"]
