"""Finds the folder of a bundle: a path, or a version or alias of the model registry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlparse
from urllib.request import url2pathname

from recsys.bundle.manifest import model_version
from recsys.errors import ModelNotFoundError, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_TRACKING_URI = "sqlite:///var/mlflow.db"
CHAMPION: Final = "champion"
"""The alias that answers where no experiment says otherwise."""
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
_PASSWORD = re.compile(r"(?<=//)([^:/@]*):[^@/]*@")
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")
_CONNECT_SECONDS = 5
_MOST_OF_A_REASON = 300


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A bundle that was found.

    Attributes:
        path: its folder on this machine.
        version: of its content, which decisions name as their model (`recsys.bundle.manifest.model_version`).
    """

    path: Path
    version: str


def resolve_model(reference: str, *, tracking_uri: str = DEFAULT_TRACKING_URI) -> Path:
    """Return the local folder of a bundle: `resolve(...).path`."""
    return resolve(reference, tracking_uri=tracking_uri).path


def resolve(reference: str, *, tracking_uri: str = DEFAULT_TRACKING_URI) -> ResolvedModel:
    """Return the local folder of a bundle and its version.

    A bundle of a remote store is copied to MLflow's temporary folder, one of a store on this machine is not.

    Args:
        reference: a folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: where MLflow keeps its registry.

    Raises:
        ModelNotFoundError: no such folder, model, version or alias.
        RegistryError: the registry or its artifacts can't be reached.
        BundleCorruptError: the folder holds no bundle.
    """
    if is_registered(reference):
        source = registered_source(reference, tracking_uri)
        path = local_folder(source) or download(source, tracking_uri)
        if not path.is_dir():
            raise artifacts_gone(path)
    else:
        path = Path(reference)
        if path.is_file():
            raise ModelNotFoundError(
                f"{reference}: is a file, must be the folder of a bundle, as `offers train` and Recommender.save write "
                "it; pickles are not read"
            )
        if not path.is_dir():
            raise ModelNotFoundError(
                f"{reference}: no such folder; name the folder of a bundle, models:/offers@champion or models:/offers/1"
            )
    return ResolvedModel(path, model_version(path))


def is_registered(reference: str) -> bool:
    """Return whether a reference asks the registry; the others name a folder."""
    return reference.startswith("models:")


def registered_source(reference: str, tracking_uri: str) -> str:
    """Return the URI of the artifacts that a reference leads to now; MLflow may try for minutes to reach its registry.

    Raises:
        ModelNotFoundError: no such model, version or alias.
        RegistryError: the registry can't be reached.
    """
    match = _MODEL_URI.fullmatch(reference)
    if match is None:
        raise ModelNotFoundError(f"{reference}: must read models:/NAME@ALIAS or models:/NAME/VERSION, NAME e.g. offers")
    _refuse_missing_registry(reference, tracking_uri)
    return _source(reference, match, tracking_uri)


def local_folder(source: str) -> Path | None:
    """Return the folder of artifacts on this machine, whether it is there or not; None for those of a remote store."""
    parsed = urlparse(source)
    return Path(url2pathname(parsed.path)) if parsed.scheme in {"", "file"} else None


def download(source: str, tracking_uri: str, to: Path | None = None) -> Path:
    """Return the folder that the artifacts of a remote store were copied to, below `to` or a temporary folder.

    Raises:
        RegistryError: they can't be had.
    """
    from mlflow.artifacts import download_artifacts

    try:
        path = download_artifacts(
            artifact_uri=source,
            dst_path=None if to is None else str(to),
            tracking_uri=tracking_uri,
            registry_uri=tracking_uri,
        )
    except Exception as error:
        raise RegistryError(f"{without_password(source)}: can't be downloaded: {_reason(error)}") from error
    return Path(path)


def artifacts_gone(folder: Path) -> RegistryError:
    """Return the error of a registry that names a folder which is not there."""
    return RegistryError(f"{folder}: the registry names it, but there is no such folder; restore it")


def without_password(uri: str) -> str:
    """Return a URI as it may be shown.

    >>> without_password("postgresql://offers:secret@db/mlflow")
    'postgresql://offers:***@db/mlflow'
    """
    return _PASSWORD.sub(r"\1:***@", uri)


def _refuse_missing_registry(reference: str, tracking_uri: str) -> None:
    """MLflow would make an empty SQLite registry where none is, and try for minutes to reach another database."""
    if tracking_uri.startswith("sqlite:///"):
        file = Path(tracking_uri.removeprefix("sqlite:///"))
        if not file.is_file():
            raise RegistryError(
                f"{reference}: no registry at {tracking_uri}; `offers train` makes one, tracking_uri names another"
            )
    elif urlparse(tracking_uri).scheme.partition("+")[0] in {"postgresql", "mysql", "mssql"}:
        _connect_once(tracking_uri)


@cache  # only what succeeded is remembered
def _connect_once(tracking_uri: str) -> None:
    import sqlalchemy as sa

    seconds = {"connect_timeout": _CONNECT_SECONDS} if tracking_uri.startswith("postgresql") else {}
    try:
        engine = sa.create_engine(tracking_uri, poolclass=sa.NullPool, connect_args=seconds)
        engine.connect().close()
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise RegistryError(
            f"the registry {without_password(tracking_uri)} can't be opened: {_reason(error)}; "
            "create or start that database, or name another as tracking_uri"
        ) from None


def _source(reference: str, match: re.Match[str], tracking_uri: str) -> str:
    import sqlalchemy as sa
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    shown = without_password(tracking_uri)
    try:
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        try:
            version = match["version"] or client.get_model_version_by_alias(match["name"], match["alias"]).version
            return str(client.get_model_version_download_uri(match["name"], version))
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            known = _known(client, match["name"])
    except (MlflowException, sa.exc.SQLAlchemyError, OSError) as error:
        raise RegistryError(
            f"{reference}: the registry {shown} does not answer: {_reason(error)}; start it, or name another as "
            "tracking_uri"
        ) from error
    raise ModelNotFoundError(f"{reference}: not in the registry {shown}; it has {known}")


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


def _reason(error: Exception) -> str:
    """What went wrong, without the layers of clients that report each other."""
    text = str(getattr(error, "orig", None) or error).strip()
    system = _SYSTEM_ERROR.search(text)
    line = system[1] if system else text.partition("\n")[0]
    return without_password(line[:_MOST_OF_A_REASON].strip()) or type(error).__name__
