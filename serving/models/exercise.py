"""What a bundle has to answer before it answers anybody: requests of every kind, drawn from its own ids.

`python -m serving.models.exercise FOLDER SECONDS` compares the bundle's digests, lets it answer, and says on standard
output what came of it; see `serving.models.loading`, which runs it in a process that may crash.
"""

from __future__ import annotations

import faulthandler
import json
import math
import signal
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.manifest import model_version
from recsys.contracts.offers import EMPTY_STATE, AccountState, CartLine, OfferRequest, json_text
from recsys.errors import BundleCorruptError, OfferEngineError
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import OfferModel
from recsys.offer_model.utf8_column import Utf8Column
from recsys.ranking.explorer import ModelExplorer
from serving.encoding import EncodingEngine, encode

N_REQUESTS: Final = 200
"""As text and as offers each; some tenths of a second together."""
_N_PAGES: Final = 5
"""Boards and call lists: each looks through all accounts, tenths of a second where they are a million."""
_MOST_SHOWN: Final = 100
"""Of an error's text: what a bundle says must not fill the log."""
_FORMS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"limit": 1, "explain": "none"},
    {"limit": 40, "explain": "full"},
    {"kinds": ("upsell",), "explain": "full"},
    {"kinds": ("cross_sell",), "new_only": True},
    {"objective": "revenue"},
    {"objective": "margin"},
    {"raw": True},
    {"sources": "evidence"},
    {"sources": "popular", "limit": 1_000},
    {"min_price": 1.0, "max_price": 1_000.0},
    {"limit": 100, "channel": "web"},
)


class Question(NamedTuple):
    """One request, and what is known of its account."""

    request: OfferRequest
    state: AccountState


class Exercise(NamedTuple):
    """What came of it.

    Attributes:
        version: of the bundle that was tried.
        answers: how many there were.
        fault: why it must not answer anybody; None where it may.
    """

    version: str
    answers: int
    fault: str | None


def questions(model: OfferModel, n: int) -> Iterator[Question]:
    """Yield `n` varied requests, the same for the same model; a small model's accounts and products all come up."""
    products, accounts = _spread(model.products.ids, 4 * n), _spread(model.accounts.ids, n)
    segments = _spread(model.segments.names, n)
    categories = _spread(model.categories.names, n)
    ware, buyers = cycle(products or ["unknown"]), cycle([*accounts, None, "nobody's"])
    for step, form in enumerate(islice(cycle(_FORMS), n)):
        cart = tuple(CartLine(product, 1.0 + step % 3) for product in islice(ware, (0, 1, 0, 4)[step // 12 % 4]))
        request = OfferRequest(
            account_id=next(buyers),
            cart=cart,
            viewed_product_id=next(ware) if step % 5 == 0 else None,
            exclude=frozenset(islice(ware, step % 2)),
            categories=(categories[step % len(categories)],) if categories and step % 23 == 0 else (),
            **form,
        )
        state = EMPTY_STATE
        if step % 4 == 3:
            state = AccountState(
                bought=tuple(islice(ware, step % 3)),
                suppressed=dict.fromkeys(islice(ware, 1), "declined lately"),
                segment=segments[step % len(segments)] or None,
                do_not_offer=False,
            )
        yield Question(request, state)


def exercise(bundle: Bundle, n: int = N_REQUESTS) -> int:
    """Let a bundle answer its warm-up requests and `n` others every way there is; return how many answers came.

    Raises:
        BundleCorruptError: an offer names a product that is not the model's, or a number that can't be.
    """
    engine = bundle.engine()
    encoding, insight, known = EncodingEngine(engine), ModelExplorer(engine), frozenset(engine.catalogue.ids)
    for item in bundle.manifest.warm_up:
        cart = tuple(CartLine(product) for product in item.cart)
        _check_offers(encoding.answer(OfferRequest(account_id=item.account_id, cart=cart)).offers, known)
    answers = len(bundle.manifest.warm_up)
    for step, (request, state) in enumerate(questions(bundle.model, n)):
        if request.objective == "margin" and engine.catalogue.margin_rate is None:
            continue
        if step == 3 * n // 4:
            encoding.use_rules(_rules(engine.catalogue.ids))
        _check_offers(encoding.answer(request, state).offers, known)
        plain = encode(engine.recommend(request, state))
        _check_offers(plain.offers, known)
        insight.why_not(request, state, engine.catalogue.ids[step % len(known)] if known else "unknown", plain.refused)
        answers += 3
    return answers + _exercise_pages(insight, bundle.model)


def exercise_main(folder: Path, seconds: float) -> int:
    """Try a bundle and say what came of it as one line of JSON; 0 where it may answer, else 1."""
    faulthandler.enable()  # says where a signal struck
    signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody stays behind whose parent is gone
    version, answers, fault = "", 0, None
    try:
        version = model_version(folder)
        answers = exercise(load_bundle(folder))
    except OfferEngineError as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it does, its parent hears of it
        fault = f"{folder}: it raised {type(error).__name__} while it was tried; do not use this bundle"
        sys.excepthook(type(error), error, error.__traceback__)
    print(json.dumps(Exercise(version, answers, fault)._asdict()))  # noqa: T201 - its parent reads it
    return 0 if fault is None else 1


def _exercise_pages(insight: ModelExplorer, model: OfferModel) -> int:
    accounts, products = _spread(model.accounts.ids, _N_PAGES), _spread(model.products.ids, _N_PAGES)
    for account in accounts:
        json_text(insight.board(account, EMPTY_STATE, 5))
    for product in products:
        json_text(insight.call_list(insight.takers_of(product), 10, lambda _: EMPTY_STATE))
    return len(accounts) + len(products)


def _check_offers(text: str, known: frozenset[str]) -> None:
    seen = set()
    for rank, offer in enumerate(json.loads(text), start=1):
        named = {offer["product_id"], offer["from_product_id"] or offer["product_id"]}
        chance = offer["probability"]
        numbers = [offer[name] for name in ("price", "expected_quantity", "expected_value", "score")]
        is_right = named <= known and offer["rank"] == rank and offer["product_id"] not in seen
        if not is_right or chance is None or not 0 <= chance <= 1 or any(map(_is_no_number, numbers)):
            shown = json.dumps(offer)[:_MOST_SHOWN]
            raise BundleCorruptError(f"it made an offer that can't be: {shown}; do not use this bundle")
        seen.add(offer["product_id"])


def _is_no_number(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def _rules(ids: list[str]) -> list[BusinessRule]:
    """Rules that place, lift and discount."""
    named = [name for name in ids if name]
    if not named:
        return []
    people = {"owner": "trial", "reason": "trial"}
    return [
        BusinessRule(name="pinned", action="pin", products=(named[-1],), discount_percent=10, **people),
        BusinessRule(name="required", action="require", products=(named[0], named[-1]), **people),
        BusinessRule(name="lifted", action="boost", products=(named[len(named) // 2],), factor=2, **people),
    ]


def _spread(texts: Utf8Column, most: int) -> list[str]:
    """Return up to `most` of the strings, at equal steps from the first on."""
    n = min(len(texts), most)
    return [texts[len(texts) * step // n] for step in range(n)]


if __name__ == "__main__":
    sys.exit(exercise_main(Path(sys.argv[1]), float(sys.argv[2])))
