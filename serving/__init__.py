"""The serving stage: ranked offers over HTTP, each durable before it is answered."""

from serving.app import create_app
from serving.models import FixedModel, LoadedModel, Models, Recommender
from serving.settings import Settings

__all__ = ["FixedModel", "LoadedModel", "Models", "Recommender", "Settings", "create_app"]
