"""The steps of a training are kept whole or not at all, and only for the same data, options and engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys.fitting.steps import (
    CANDIDATES_FORM,
    FRAME_FORM,
    LEARNED_FORM,
    KeptSteps,
    kept_steps,
    locked_steps,
    steps_found,
    take_over,
)
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


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("step.json", b"{", "is damaged"),
        ("step.json", None, "has no step.json"),
        ("frame.parquet", None, "is damaged"),
        ("frame.parquet", b"cut", "is damaged"),
    ],
)
def test_a_damaged_step_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, content: bytes | None, said: str
) -> None:
    frame, path = pd.DataFrame({"n": [1]}), tmp_path / "rules" / file
    KeptSteps(tmp_path, "key")("rules", lambda: frame, FRAME_FORM)
    KeptSteps(tmp_path, "other key")("cart", lambda: frame, FRAME_FORM)
    keep = KeptSteps(tmp_path, "key")
    keep("cart", lambda: frame, FRAME_FORM)
    assert not caplog.records  # another key, or nothing: nothing is wrong
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert keep("rules", lambda: frame.head(0), FRAME_FORM).empty
    assert [(record.levelname, record.name) for record in caplog.records] == [("WARNING", "recsys.fitting.steps")]
    assert f"kept step {tmp_path / 'rules'} {said}" in caplog.text


def test_what_holds_a_type_that_is_not_listed_is_made_each_time(tmp_path: Path) -> None:
    keep = KeptSteps(tmp_path, "key")
    for made in ([tmp_path], [tmp_path / "again"]):
        assert keep("a part of another package", partial(list, made), LEARNED_FORM) == made
    assert list(tmp_path.iterdir()) == []


def _fail(folder: Path, frame: pd.DataFrame | None) -> None:
    """Fail in a training, after a step where there is a frame."""
    with locked_steps(folder) as kept:
        assert take_over(kept, "it") is None
        if frame is not None:
            kept_steps(kept, "key")("rules", lambda: frame, FRAME_FORM)
        raise ZeroDivisionError


def test_two_trainings_with_one_folder_do_not_share_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1]})
    with locked_steps(tmp_path / "steps") as kept:
        kept_steps(kept, "key")("rules", lambda: frame, FRAME_FORM)
        (tmp_path / "steps" / ".offers.half").mkdir()  # as a process leaves it that is killed while it writes
        with locked_steps(tmp_path / "steps") as other:
            made = frame.head(0)
            assert kept_steps(other, "key")("rules", lambda: made, FRAME_FORM) is made
            assert take_over(other, "other") is None
        assert (tmp_path / "steps" / "rules").is_dir()
    assert not (tmp_path / "steps").exists()


def test_a_training_that_fails_leaves_its_steps_and_whose_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _fail(tmp_path / "steps", pd.DataFrame({"n": [1]}))
    with locked_steps(tmp_path / "steps") as kept:
        assert take_over(kept, "next") == "it"
        keep = kept_steps(kept, "key")
        keep("rules", pd.DataFrame, FRAME_FORM)
        assert steps_found(keep) == ["rules"]


def test_a_training_that_fails_before_its_first_step_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _fail(tmp_path / "steps", None)
    assert list(tmp_path.iterdir()) == []
