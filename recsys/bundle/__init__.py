"""One versioned directory that holds all a server needs, without pickle."""

from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.manifest import Manifest, WarmUp, model_version, read_manifest
from recsys.bundle.resolve import ResolvedModel, resolve, resolve_model
from recsys.bundle.save import BundleDetails, save_bundle

__all__ = [
    "Bundle",
    "BundleDetails",
    "Manifest",
    "ResolvedModel",
    "WarmUp",
    "load_bundle",
    "model_version",
    "read_manifest",
    "resolve",
    "resolve_model",
    "save_bundle",
]
