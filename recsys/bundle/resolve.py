"""Finds the folder of a bundle: a path, or a version or alias of the model registry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from recsys.bundle.manifest import model_version
from recsys.errors import ModelNotFoundError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_TRACKING_URI = "sqlite:///var/mlflow.db"
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A bundle that was found.

    Attributes:
        path: its folder on this machine.
        version: of its content, which decisions name as their model (`recsys.bundle.manifest.model_version`).
    """

    path: Path
    version: str


def resolve_model(reference: str, *, tracking_uri: str = DEFAULT_TRACKING_URI, download_to: Path | None = None) -> Path:
    """Return the local folder of a bundle: `resolve(...).path`."""
    return resolve(reference, tracking_uri=tracking_uri, download_to=download_to).path


def resolve(
    reference: str, *, tracking_uri: str = DEFAULT_TRACKING_URI, download_to: Path | None = None
) -> ResolvedModel:
    """Return the local folder of a bundle and its version.

    Args:
        reference: a folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: where MLflow keeps its registry.
        download_to: where a bundle of a remote store is copied to; None: MLflow's temporary folder. A store on this
            machine is never copied.

    Raises:
        ModelNotFoundError: no such folder, registry, model, version or alias.
        BundleCorruptError: the folder holds no bundle.
    """
    if not reference.startswith("models:"):
        path = Path(reference)
        if not path.is_dir():
            raise ModelNotFoundError(
                f"{reference}: no such folder; name the folder of a bundle, models:/offers@champion or models:/offers/1"
            )
        return ResolvedModel(path, model_version(path))
    match = _MODEL_URI.fullmatch(reference)
    if match is None:
        raise ModelNotFoundError(f"{reference}: must read models:/NAME@ALIAS or models:/NAME/VERSION, NAME e.g. offers")
    _refuse_missing_registry(reference, tracking_uri)
    path = _local(_source(reference, match, tracking_uri), tracking_uri, download_to)
    return ResolvedModel(path, model_version(path))


def _refuse_missing_registry(reference: str, tracking_uri: str) -> None:
    # MLflow would make an empty registry where none is.
    if tracking_uri.startswith("sqlite:///"):
        file = Path(tracking_uri.removeprefix("sqlite:///"))
        if not file.is_file():
            raise ModelNotFoundError(
                f"{reference}: no registry at {tracking_uri}; `offers train` makes one, or name the folder of a bundle"
            )


def _source(reference: str, match: re.Match[str], tracking_uri: str) -> str:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    try:
        version = match["version"] or client.get_model_version_by_alias(match["name"], match["alias"]).version
        return str(client.get_model_version_download_uri(match["name"], version))
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise ModelNotFoundError(
            f"{reference}: not in the registry {tracking_uri}; it has {_known(client, match['name'])}"
        ) from None


def _known(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException:
        names = ", ".join(sorted(found.name for found in client.search_registered_models()))
        return f"the models {names}" if names else "no model; `offers train` registers one"
    versions = ", ".join(
        sorted((str(found.version) for found in client.search_model_versions(f"name='{name}'")), key=int)
    )
    aliases = ", ".join(f"@{alias}" for alias in sorted(model.aliases))
    return f"{name} with versions {versions or 'none'} and aliases {aliases or 'none'}"


def _local(source: str, tracking_uri: str, download_to: Path | None) -> Path:
    parsed = urlparse(source)
    if parsed.scheme in {"", "file"}:
        path = Path(url2pathname(parsed.path))
        if not path.is_dir():
            raise ModelNotFoundError(f"{path}: the registry names it, but there is no such folder; restore it")
        return path
    return _download(source, tracking_uri, download_to)


@cache  # a version never changes its content: a server that looks every few seconds downloads it once
def _download(source: str, tracking_uri: str, download_to: Path | None) -> Path:
    from mlflow.artifacts import download_artifacts

    return Path(
        download_artifacts(
            artifact_uri=source,
            dst_path=None if download_to is None else str(download_to),
            tracking_uri=tracking_uri,
            registry_uri=tracking_uri,
        )
    )
