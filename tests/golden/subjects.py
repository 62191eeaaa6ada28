"""What is recorded, by the name of its file: each subject is worked out from the committed bundles alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.golden.answers import answers
from tests.golden.bulk import recommendations
from tests.golden.comparison import Case
from tests.golden.documents import helps, openapi
from tests.golden.evaluation import evaluations
from tests.golden.markets import MARKETS, NORTH, Market
from tests.golden.questions import Session, sessions
from tests.golden.storage import archive_of, unpack
from tests.golden.wrong import wrong_requests

Subject = Callable[[Path], list[Case]]
"""Takes an empty folder and returns the cases."""


def _bundle(market: Market, folder: Path) -> Path:
    return unpack(archive_of(market.name), folder / "bundle")


def _answers(market: Market, session: Session, folder: Path) -> list[Case]:
    return answers(market, session, _bundle(market, folder), folder)


def _recommendations(market: Market, folder: Path) -> list[Case]:
    return recommendations(_bundle(market, folder), folder)


SUBJECTS: Mapping[str, Subject] = {
    **{
        f"answers-{market.name}-{session.name}": partial(_answers, market, session)
        for market in MARKETS
        for session in sessions(market)
    },
    **{f"recommend-{market.name}": partial(_recommendations, market) for market in MARKETS},
    "evaluation": lambda folder: evaluations(_bundle(NORTH, folder), folder),
    "help": lambda _: helps(),
    "openapi": lambda folder: openapi(_bundle(NORTH, folder), folder),
    "wrong-requests": lambda folder: wrong_requests(_bundle(NORTH, folder), folder),
}
