"""Answers as text: what goes out, and what the event store keeps, written once from what was ranked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, get_args

from recsys.contracts.money import after_discount
from recsys.contracts.offers import (
    EMPTY_STATE,
    PROBABILITY_OF,
    AccountState,
    Explain,
    Mix,
    NameKind,
    Objective,
    OfferRequest,
    ProductChange,
    Slate,
    Tier,
    Variants,
    json_text,
    logged_products,
)
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.active_rules import RuleAnnotation
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel.layout import MOVERS, NO_ROW
from recsys.ranking.languages import LANGUAGES, Language
from recsys.ranking.ranked import N_ROWS, TIERS, Exploration, RankedOffer, RankedSlate

_PROBABILITY_OF: Final = json_text(PROBABILITY_OF)
_N_WRITTEN: Final = RankedOffer._fields.index("moved_by")
_MOVED_BY: Final = tuple(map(json_text, MOVERS))
_NO_RULE: Final = ("null", "null", "null")
_MOST_KEPT: Final = 20_000
"""Reasons that are kept once written, for each language and fullness some 25 MB at the most; then all are written
anew."""


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
    language: str
    mix: Mix
    variants: Variants

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
        slate.language,
        slate.mix,
        slate.variants,
    )


class _Said(NamedTuple):
    """What every offer says that is made of the same product for the same reason.

    Attributes:
        product: fields of an answer, by name.
        text: the fields from the tier on, where no business rule is about the product.
        kept_product: of the values that are kept, the product's.
        tier: of the evidence.
        kept_end: of the values that are kept, those after the propensity, likewise without a business rule.
        ruled: `text` and `kept_end` with places for what a business rule says.
    """

    product: str
    text: str
    kept_product: str
    tier: str
    kept_end: str
    ruled: Callable[[str, str, str], tuple[str, str]]


class EncodingEngine:
    """An offer engine whose answers are text, put together from what its products and reasons say.

    The text is what `encode` makes of the engine's slate, in less than half the time: tests/serving/test_encoding.py
    compares.
    """

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        self._currency = json_text(engine.model.facts.currency)
        self._named: dict[tuple[int, str], tuple[str, str]] = {}  # at most one entry a product and language
        self._said: dict[tuple[Explain, str], dict[tuple[float, ...], _Said]] = {
            (explain, tag): {} for explain in get_args(Explain) for tag in LANGUAGES
        }

    def answer(
        self, request: OfferRequest, state: AccountState = EMPTY_STATE, exploration: Exploration | None = None
    ) -> EncodedSlate:
        """Return the ranked answer to one request.

        Raises:
            ConfigError: the model can't answer such a request.
        """
        ranked = self._engine.rank(request, state, exploration)
        language = self._engine.reasons.language(request, ranked.account)
        offers, kept = self._written(ranked, request.explain, language) if ranked.offers else ("[]", "[]")
        return EncodedSlate(
            offers,
            kept,
            len(ranked.offers),
            ranked.requested,
            ranked.shortfall,
            TIERS[ranked.tier],
            request.objective,
            self._engine.model.facts.horizon_days,
            ranked.resolved.unknown_products,
            ranked.resolved.unknown_categories,
            ranked.n_considered,
            ranked.refused,
            language.tag,
            self._engine.config.diversity.mix_of(request),
            self._engine.config.diversity.variants_of(request),
        )

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has anything to say about what is called so."""
        return self._engine.knows(kind, name)

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        return self._engine.apply(change)

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""
        self._engine.use_rules(rules)

    def _written(self, ranked: RankedSlate, explain: Explain, language: Language) -> tuple[str, str]:
        """Return the offers as they go out and as they are kept."""
        said, annotations = self._said[explain, language.tag], ranked.resolved.rules.annotations
        last = len(ranked.offers)
        if len(said) > _MOST_KEPT:
            said.clear()
        currency, prices = self._currency, self._engine.catalogue
        answered: list[str] = []
        logged: list[str] = []
        texts = json_text([number for offer in ranked.offers for number in offer[N_ROWS:_N_WRITTEN]])[1:-1].split(",")
        numbers = zip(*[iter(texts)] * (_N_WRITTEN - N_ROWS), strict=True)
        for rank, offer in enumerate(ranked.offers, start=1):
            price, probability, units, value, score, rank_probability, boost = next(numbers)
            ruling, to_pay, dearer, paid = _NO_RULE, None, None, None
            if annotations and offer.product in annotations:
                ruling, to_pay = self._annotated(annotations[offer.product], offer.price)
            if offer.from_product != NO_ROW:
                displaced = offer.from_product, offer.quantity, ranked.segment
                dearer = paid = self._engine.price_difference(offer.price, *displaced)
                if to_pay is not None:
                    paid = self._engine.price_difference(to_pay, *displaced)
            rows = offer[:N_ROWS] if paid is None else (*offer[:N_ROWS], paid)
            found = said.get(rows)
            if found is None:
                found = said[rows] = self._say(offer, ranked.segment, explain, language, paid)
            product, text, kept_product, tier, kept_end, ruled = found
            if ruling is not _NO_RULE:
                text, kept_end = ruled(*ruling)
            breaks = prices.price_breaks(offer.product, ranked.segment)
            listed = json_text(breaks) if breaks else "[]"
            answered.append(
                f'{{"rank":{rank},{product},"price":{price},"currency":{currency},"probability":{probability},'
                f'"probability_of":{_PROBABILITY_OF},"expected_quantity":{units},"expected_value":{value},'
                f'"score":{score},{text},"price_breaks":{listed},'
                f'"price_to_pay":{"null" if to_pay is None else json_text(to_pay)},'
                f'"rank_probability":{rank_probability},"boost":{boost},"moved_by":{_MOVED_BY[offer.moved_by]},'
                f'"price_difference":{"null" if dearer is None else json_text(dearer)}}}'
            )
            propensity = "1.0" if rank < last else json_text(ranked.last_propensity)
            logged.append(
                f"[{rank},{kept_product},{price},{currency},{probability},{_PROBABILITY_OF},{units},{value},{score},"
                f"{tier},{propensity},{kept_end}]"
            )
        return f"[{','.join(answered)}]", f"[{','.join(logged)}]"

    def _say(self, offer: RankedOffer, segment: int, explain: Explain, language: Language, paid: float | None) -> _Said:
        reasons = self._engine.reasons
        product_id, name = self._name(offer.product, language)
        kind, source = '"upsell"', offer.from_product
        reason, tier = reasons.of_offer(offer, segment), f'"{TIERS[offer.tier]}"'
        if source == NO_ROW:
            kind, source = '"cross_sell"', reason.anchor
        source_id, source_name = ("null", "null") if source == NO_ROW else self._name(source, language)
        for_rep = for_shopper = '""'
        if explain != "none":
            spoken = reasons.spoken(offer, segment, language, paid)
            for_rep, for_shopper = json_text(spoken.for_rep), json_text(spoken.for_shopper)
        evidence = json_text(reasons.evidence(reason)) if explain == "full" else "{}"
        why = f'"tier":{tier},"reason":{for_rep},"from_product_id":{source_id},"evidence":{evidence}'
        more = f'"reason_code":"{reason.code}","reason_for_shopper":{for_shopper},"from_product_name":{source_name},'
        details = self._engine.details.of(offer.product)
        more += f'"url":{json_text(details.url)},"image_url":{json_text(details.image_url)},'
        more += f'"attributes":{json_text(details.attributes)}'

        def ruled(rule: str, off: str, text: str) -> tuple[str, str]:
            return f'{why},"rule":{rule},"discount":{off},"text":{text},{more}', f"{source_id},{rule},{off}"

        text, kept_end = ruled(*_NO_RULE)
        return _Said(
            product=f'"product_id":{product_id},"kind":{kind},"name":{name}',
            text=text,
            kept_product=f"{product_id},{kind}",
            tier=tier,
            kept_end=kept_end,
            ruled=ruled,
        )

    def _name(self, product: int, language: Language) -> tuple[str, str]:
        texts = self._named.get((product, language.tag))
        if texts is None:
            name = self._engine.details.name(product, language.tag)
            texts = json_text(self._engine.catalogue.ids[product]), json_text(name)
            self._named[product, language.tag] = texts
        return texts

    def _annotated(self, annotation: RuleAnnotation, price: float) -> tuple[tuple[str, str, str], float | None]:
        """Return what a business rule says of an offer, its name, the money off and its text, and the price to pay."""
        off = to_pay = None
        if annotation.discount is not None and not math.isnan(price):
            off, to_pay = after_discount(price, annotation.discount, self._engine.model.facts.currency)
        return (json_text(annotation.rule), json_text(off), json_text(annotation.text)), to_pay
