"""Answers as text: what goes out, and what the event store keeps, written once from what was ranked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from recsys.contracts.offers import (
    ANSWERED,
    EMPTY_STATE,
    LOGGED,
    AccountState,
    Explain,
    NameKind,
    Objective,
    OfferRequest,
    ProductChange,
    Slate,
    Tier,
    logged_products,
)
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.active_rules import RuleAnnotation
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel.layout import NO_ROW
from recsys.ranking.ranked import (
    N_NUMBERS,
    TIERS,
    Exploration,
    OfferRows,
    RankedOffer,
    RankedSlate,
    draw,
    widened,
)

_MOST_KEPT: Final = 50_000
"""Pieces of text that are kept once written, some 50 MB at the most; then all are written anew."""
_VARYING: Final = (
    *("rank", "price", "probability", "expected_quantity", "expected_value", "score"),
    *("propensity", "rule", "discount", "text"),
)
"""The fields that differ between two offers made for the same reason, in the order of `ANSWERED` and of `LOGGED`."""
_CUT: Final = "\0"
"""Stands in no JSON."""
_FORMS: Final = {name: _CUT if name in _VARYING else "%s" for name in (*ANSWERED, *LOGGED)}
_ANSWERED_FORM: Final = "{" + ",".join(f'"{name}":{_FORMS[name]}' for name in ANSWERED) + "}"
_LOGGED_FORM: Final = "[" + ",".join(_FORMS[name] for name in LOGGED) + "]"
_PROBABILITY_OF: Final = '"buys_within_horizon"'
_TIER_TEXTS: Final = tuple(f'"{tier}"' for tier in TIERS)
_NO_NUMBERS: Final = (math.nan,) * N_NUMBERS
_NO_RULE: Final = ("null", "null", "null")


class EncodedSlate(NamedTuple):
    """The ranked answer to one request, its offers as text.

    Attributes:
        offers: JSON array of `schemas.offers.OfferAnswer`.
        kept: JSON array of offers, each by the positions of `LOGGED`.
        returned: how many offers there are.
        shortfall: why fewer came than were asked for; None when all came.
    """

    offers: str
    kept: str
    returned: int
    requested: int
    shortfall: str | None
    tier: Tier
    objective: Objective
    horizon_days: int
    unknown_products: tuple[str, ...]
    unknown_categories: tuple[str, ...]
    n_considered: int
    refused: Mapping[str, str]

    @property
    def product_ids(self) -> list[str]:
        """The products that are offered, in order of rank."""
        return logged_products(self.kept)


def encode(slate: Slate) -> EncodedSlate:
    """Return a slate as text."""
    return EncodedSlate(
        json_text([offer.answered() for offer in slate.offers]),
        json_text([offer.logged() for offer in slate.offers]),
        slate.returned,
        slate.requested,
        slate.shortfall,
        slate.tier,
        slate.objective,
        slate.horizon_days,
        slate.unknown_products,
        slate.unknown_categories,
        slate.n_considered,
        slate.refused,
    )


class _Template(NamedTuple):
    """The text of an offer whenever it is made for the same reason, cut where a field of `_VARYING` stands.

    Attributes:
        answered: as it goes out.
        logged: as it is kept.
    """

    answered: tuple[str, ...]
    logged: tuple[str, ...]


class EncodingEngine:
    """An offer engine whose answers are text, made from templates that are kept once written.

    The text is what `encode` makes of the engine's slate: tests/serving/test_encoding.py compares.
    """

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        self._currency = json_text(engine.model.facts.currency)
        self._named: dict[int, tuple[str, str]] = {}  # at most one entry a product
        self._templates: dict[Explain, dict[OfferRows, _Template]] = {"none": {}, "brief": {}, "full": {}}

    def answer(
        self, request: OfferRequest, state: AccountState = EMPTY_STATE, exploration: Exploration | None = None
    ) -> EncodedSlate:
        """Return the ranked answer to one request.

        Raises:
            ConfigError: the model can't answer such a request.
        """
        ranked = self._engine.rank(request, state)
        if exploration is not None:
            wide = self._engine.rank(widened(request), state)
            drawn = draw(len(wide.rows), request.limit, exploration)
            if drawn is not None:
                return self._encoded(ranked.with_last(wide, drawn.position), request, drawn.propensity)
        return self._encoded(ranked, request, 1.0)

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has anything to say about what is called so."""
        return self._engine.knows(kind, name)

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        return self._engine.apply(change)

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""
        self._engine.use_rules(rules)

    def _encoded(self, ranked: RankedSlate, request: OfferRequest, propensity: float) -> EncodedSlate:
        offers, kept = self._written(ranked, request.explain, propensity) if ranked.rows else ("[]", "[]")
        return EncodedSlate(
            offers,
            kept,
            len(ranked.rows),
            ranked.requested,
            ranked.shortfall,
            TIERS[ranked.tier],
            request.objective,
            self._engine.model.facts.horizon_days,
            ranked.resolved.unknown_products,
            ranked.resolved.unknown_categories,
            ranked.n_considered,
            ranked.refused,
        )

    def _written(self, ranked: RankedSlate, explain: Explain, last_propensity: float) -> tuple[str, str]:
        templates, annotations = self._templates[explain], ranked.resolved.rules.annotations
        if len(templates) > _MOST_KEPT:
            templates.clear()
        answered: list[str] = []
        logged: list[str] = []
        texts = iter(json_text(ranked.numbers)[1:-1].split(","))
        numbers = zip(texts, texts, texts, texts, texts)  # noqa: B905 - one iterator, five at a time
        last, drawn = len(ranked.rows), json_text(last_propensity)
        for rank, (rows, (price, probability, quantity, value, score)) in enumerate(
            zip(ranked.rows, numbers, strict=True), start=1
        ):
            template = templates.get(rows) or self._template(rows, ranked, explain)
            rule, off, text = _NO_RULE
            if annotations and rows[0] in annotations:
                rule, off, text = _annotated(annotations[rows[0]], float(price) if price != "null" else math.nan)
            a, b, c, d, e, f, g, h, i, j = template.answered
            answered.append(
                f"{a}{rank}{b}{price}{c}{probability}{d}{quantity}{e}{value}{f}{score}{g}{rule}{h}{off}{i}{text}{j}"
            )
            propensity = drawn if rank == last else "1.0"
            a, b, c, d, e, f, g, h, i, j = template.logged
            logged.append(
                f"{a}{rank}{b}{price}{c}{probability}{d}{quantity}{e}{value}{f}{score}{g}{propensity}{h}{rule}{i}{off}{j}"
            )
        return f"[{','.join(answered)}]", f"[{','.join(logged)}]"

    def _template(self, rows: OfferRows, ranked: RankedSlate, explain: Explain) -> _Template:
        """Write what `OfferEngine.offer` says, from texts that are kept: a new one takes some microseconds."""
        product, from_product, _, tier, _, _ = rows
        reason = self._engine.reasons.of_offer(RankedOffer(*rows, *_NO_NUMBERS), ranked.segment)
        source = from_product if from_product != NO_ROW else reason.anchor
        product_id, name = self._named.get(product) or self._name(product)
        kind, tier_text = '"cross_sell"' if from_product == NO_ROW else '"upsell"', _TIER_TEXTS[tier]
        source_id = "null" if source == NO_ROW else (self._named.get(source) or self._name(source))[0]
        sentence = '""' if explain == "none" else json_text(reason.sentence)
        counts = json_text(reason.evidence) if explain == "full" else "{}"
        begin, of = (product_id, kind, name, self._currency), _PROBABILITY_OF
        answered = (_ANSWERED_FORM % (*begin, of, tier_text, sentence, source_id, counts)).split(_CUT)
        logged = (_LOGGED_FORM % (product_id, kind, self._currency, of, tier_text, source_id)).split(_CUT)
        template = self._templates[explain][rows] = _Template(tuple(answered), tuple(logged))
        return template

    def _name(self, product: int) -> tuple[str, str]:
        engine = self._engine
        texts = json_text(engine.catalogue.ids[product]), json_text(engine.model.products.names[product] or None)
        self._named[product] = texts
        return texts


def _annotated(annotation: RuleAnnotation, price: float) -> tuple[str, str, str]:
    """Return what a business rule says of an offer: its name, the money off and its text."""
    off = "null" if annotation.discount is None else json_text(annotation.discount * price)
    return json_text(annotation.rule), off, json_text(annotation.text)


def json_text(value: Any) -> str:  # noqa: ANN401 - whatever is part of an answer
    """Return a value as JSON; a number that JSON has not is null."""
    return to_json(value, inf_nan_mode="null").decode()
