"""Where reports go: a folder, an MLflow run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from recsys.errors import ReadoutError
from recsys.evaluation.readout.results import Readout
from recsys.reporting.readout_page import html_page
from recsys.reporting.readout_text import markdown_page

ARTIFACTS = "readout"


def write_report(readout: Readout, folder: Path) -> tuple[Path, ...]:
    """Write `readout.json`, `readout.html` and `readout.md` and return their paths; equal readouts give equal bytes.

    Raises:
        ReadoutError: the folder is a file.
    """
    if folder.is_file():
        raise ReadoutError(f"--out {folder} is a file, must be a folder; name another")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "readout.json": json.dumps(readout.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "readout.html": html_page(readout),
        "readout.md": markdown_page(readout),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)


def log_report(readout: Readout, run_id: str) -> None:
    """Log the three files under `readout/` of an MLflow run, with the verdict as a tag and the effects as metrics.

    Raises:
        ReadoutError: there is no such run.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    try:
        client.get_run(run_id)
    except MlflowException as error:
        raise ReadoutError(f"MLflow run {run_id!r}: {error.message}; name a run of the arms' models") from None
    with tempfile.TemporaryDirectory() as folder:
        write_report(readout, Path(folder))
        client.log_artifacts(run_id, folder, ARTIFACTS)
    client.set_tag(run_id, "verdict", readout.verdict.verdict)
    for effect in readout.effects:
        name = "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in effect.metric)
        arm = "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in effect.arm)
        client.log_metric(run_id, f"effect/{arm}/{name}", effect.effect)
