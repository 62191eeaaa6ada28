"""The command `offers`: the door to every room."""

from recsys.cli.door import main

__all__ = ["main"]
