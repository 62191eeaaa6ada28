"""The model registry: versions of `offers`, and the two aliases that say what runs and what wants to run.

MLflow keeps versions and aliases. A bundle is logged as a plain directory, with MLflow's own description of a model
beside its files: `mlflow.pyfunc.load_model` opens it by `recsys.bundle.load`, and no pickle stands between training and
serving.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Final, Self

from recsys.bundle.load import DEFAULT_LIMIT, AccountOffers
from recsys.bundle.resolve import CHAMPION, DEFAULT_TRACKING_URI
from recsys.contracts import columns as c
from recsys.errors import ModelNotFoundError
from recsys.ranking.batch import SCHEMA

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

MODEL_NAME: Final = "offers"
EXPERIMENT: Final = "offers"
BUNDLE_FOLDER: Final = "bundle"
MODELS_FOLDER: Final = "models"
VERSION_TAG: Final = "model_version"
"""Tag of a run and of what it registered: the version that decisions name."""
CHALLENGER: Final = "challenger"


@dataclass(frozen=True)
class ModelVersion:
    """One registered bundle.

    Attributes:
        version: number within the registered model, 1 or more.
        run_id: the MLflow run that trained it.
        tags: what was written on it: the version of its bundle, promotion, override and the champion before it.
    """

    version: int
    run_id: str
    tags: dict[str, str]


class Registry:
    """Versions and aliases of the registered model `offers`.

    Args:
        tracking_uri: where MLflow keeps runs and models, e.g. `sqlite:///var/mlflow.db`.
    """

    def __init__(self, tracking_uri: str = DEFAULT_TRACKING_URI) -> None:
        from mlflow import MlflowClient

        file = sqlite_file(tracking_uri)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)  # SQLite itself makes no folder
        self.tracking_uri = tracking_uri
        self.client: MlflowClient = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    @classmethod
    def existing(cls, tracking_uri: str) -> Self:
        """Return a registry that is there: a question makes no database.

        Raises:
            ModelNotFoundError: its SQLite file is not there.
        """
        file = sqlite_file(tracking_uri)
        if file is not None and not file.is_file():
            raise ModelNotFoundError(
                f"no registry {tracking_uri}: the file is not there; `offers train` makes it, "
                "--tracking-uri names another"
            )
        return cls(tracking_uri)

    def register(self, run_id: str, description: str | None = None) -> ModelVersion:
        """Return the new version made of a run's logged bundle; alias `challenger` moves to it.

        Args:
            run_id: of the run that logged the bundle.
            description: what people read of the version, in Markdown.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(MODEL_NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        run = self.client.get_run(run_id)
        tags = {name: value for name, value in run.data.tags.items() if name == VERSION_TAG}
        model = self.client.get_logged_model(run.outputs.model_outputs[0].model_id)
        made = self.client.create_model_version(
            MODEL_NAME,
            source=model.artifact_location,
            run_id=run_id,
            tags=tags,
            description=description,
            model_id=model.model_id,
        )
        named = json.dumps([{"name": MODEL_NAME, "version": made.version}])
        self.client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": named})  # links the model's page
        self.client.set_registered_model_alias(MODEL_NAME, CHALLENGER, made.version)
        return _version(made)

    def find(self, reference: str) -> ModelVersion | None:
        """Return the version that an alias or a number names, or None where it names none."""
        from mlflow.exceptions import MlflowException

        by_alias = reference in {CHAMPION, CHALLENGER}
        find = self.client.get_model_version_by_alias if by_alias else self.client.get_model_version
        try:
            return _version(find(MODEL_NAME, reference))
        except MlflowException:
            return None

    def get(self, reference: str) -> ModelVersion:
        """Return the version that an alias or a number names.

        Raises:
            ModelNotFoundError: there is none.
        """
        found = self.find(reference)
        if found is None:
            raise ModelNotFoundError(
                f"no model {MODEL_NAME}@{reference} in {self.tracking_uri}; `offers train` registers one as "
                f"{CHALLENGER}, `offers promote` moves {CHAMPION}"
            )
        return found

    def of_run(self, run_id: str) -> ModelVersion | None:
        """Return the version that a run registered, or None where it registered none."""
        found = self.client.search_model_versions(f"name='{MODEL_NAME}' and run_id='{run_id}'")
        return _version(found[0]) if found else None

    def promote(self, version: ModelVersion, *, now: datetime, why: str) -> ModelVersion | None:
        """Move `champion` to a version and return the champion before it; the version keeps both on its tags."""
        before = self.find(CHAMPION)
        self.client.set_registered_model_alias(MODEL_NAME, CHAMPION, str(version.version))
        tags = {"promoted_at": now.isoformat(), "promoted_because": why}
        if before is not None and before.version != version.version:
            tags["champion_before"] = str(before.version)
        for key, value in tags.items():
            self.client.set_model_version_tag(MODEL_NAME, str(version.version), key, value)
        return before

    def rollback(self, *, now: datetime, why: str) -> tuple[ModelVersion, ModelVersion]:
        """Move `champion` back to the one before it; return (the champion now, the one left).

        Raises:
            ModelNotFoundError: there is no champion, or none before it.
        """
        left = self.get(CHAMPION)
        number = left.tags.get("champion_before")
        if number is None:
            raise ModelNotFoundError(
                f"{MODEL_NAME} version {left.version} is the first champion; there is none to go back to"
            )
        back = self.get(number)
        self.client.set_registered_model_alias(MODEL_NAME, CHAMPION, number)
        self.client.set_model_version_tag(MODEL_NAME, str(left.version), "rolled_back_at", now.isoformat())
        self.client.set_model_version_tag(MODEL_NAME, str(left.version), "rolled_back_because", why)
        return back, left


def write_model_description(folder: Path, model_id: str, run_id: str) -> None:
    """Write what MLflow reads of a model beside the files of a bundle: who opens it, what it takes and answers."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    kinds = {"string": "string", "int32": "integer", "double": "double"}
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", c.ACCOUNT_ID)]),
        outputs=Schema([ColSpec(kinds[str(field.type)], field.name, required=False) for field in SCHEMA]),
        params=ParamSchema([ParamSpec("limit", "integer", DEFAULT_LIMIT)]),
    )
    model = Model(run_id=run_id, model_id=model_id, signature=signature)
    model.add_flavor("python_function", loader_module=AccountOffers.__module__, python_version=python_version())
    model.save(str(folder / "MLmodel"))
    (folder / "requirements.txt").write_text(f"offer-engine=={version('offer-engine')}\n", encoding="utf-8")


def sqlite_file(uri: str) -> Path | None:
    """Return the file that a SQLite URI names, None for a server."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)) if uri.startswith(prefix) else None


def _version(made: MlflowVersion) -> ModelVersion:
    return ModelVersion(int(made.version), made.run_id or "", dict(made.tags or {}))
