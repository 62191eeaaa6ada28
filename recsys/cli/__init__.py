"""The command `offers`: the door to every room."""

from recsys.cli.main import main

__all__ = ["main"]
