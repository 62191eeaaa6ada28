"""What reasons say in each language: templates by code, and how numbers and dates are written.

Every template may name `product`, `anchor` and `category`; those for a sales person also `n`, `n_of`, `group`, `days`,
`as_of` and `share`. A language is one entry of `LANGUAGES`; tests compare its templates with those of English.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from recsys.contracts.money import currency_digits
from recsys.contracts.offers import ReasonCode


class Template(NamedTuple):
    """One reason, for two listeners.

    Attributes:
        rep: what a sales person says of the account, with counts.
        shopper: what a shop shows to the shopper, without counts of others.
    """

    rep: str
    shopper: str


@dataclass(frozen=True)
class Language:
    """How reasons are spoken.

    Attributes:
        tag: ISO 639, as `en`.
        templates: by reason code.
        beside_cart: what the sales person says of `bought_together` where the anchor is in the cart.
        of_orders: templates for the sales person where orders are counted, because none has an account.
        group: the segment among the accounts; names `segment`.
        dearer: a reason of an upgrade that costs more; names `reason` and `amount`.
        under: a share that is too small to be said; names `share`.
        thousands: between groups of three digits.
        decimal: before decimals.
        date: pattern of `strftime`.
    """

    tag: str
    templates: Mapping[ReasonCode, Template]
    beside_cart: str
    of_orders: Mapping[ReasonCode, str]
    group: str
    dearer: Template
    under: str
    thousands: str
    decimal: str
    date: str

    def count(self, number: int) -> str:
        """Return a count in digits.

        >>> LANGUAGES["en"].count(1404), LANGUAGES["de"].count(1404)
        ('1,404', '1.404')
        """
        text = f"{number:,}"
        return text if self.thousands == "," else text.replace(",", self.thousands)

    def amount(self, money: float, currency: str | None) -> str:
        """Return money with its sign, the currency's digits and its code, where there is one.

        >>> [LANGUAGES["en"].amount(money, "GBP") for money in (2.1, 0.004)], LANGUAGES["de"].amount(1290.5, None)
        (['+2.10 GBP', '+0.004 GBP'], '+1.290,50')
        """
        stated = f"{money:.9f}".rstrip("0").partition(".")[2]  # less than a cent stays as it is
        digits = max(currency_digits(currency), len(stated))
        text = f"{money:+,.{digits}f}".translate(str.maketrans(",.", f"{self.thousands}{self.decimal}"))
        return f"{text} {currency}" if currency else text

    def percent(self, share: float) -> str:
        """Return a share in percent.

        >>> [LANGUAGES["de"].percent(share) for share in (0.123, 0.0071, 0.0001)]
        ['12 %', '0,7 %', 'unter 0,1 %']
        """
        if share >= 0.01:
            return f"{100 * share:.0f} %"
        text = f"{100 * max(share, 0.001):.1f} %".replace(".", self.decimal)
        return text if share >= 0.001 else self.under.format(share=text)

    def day(self, moment: str) -> str:
        """Return the day of an ISO 8601 moment.

        >>> LANGUAGES["de"].day("2011-06-01T00:00:00+00:00")
        '01.06.2011'
        """
        return datetime.fromisoformat(moment).strftime(self.date)


_ENGLISH: Final = Language(
    tag="en",
    templates={
        "bought_together": Template(
            "the account buys {anchor}: {n} of {n_of} orders with it hold {product} too; {share} overall",
            "You chose {anchor}; others order {product} with it",
        ),
        "bought_next": Template(
            "{n} of {n_of} accounts{group} that buy {anchor} added {product} within {days} days; {share} overall",
            "You chose {anchor}; others who did added {product}",
        ),
        "upgraded": Template(
            "{n} of {n_of} accounts{group} that buy {anchor} went on to {product} within {days} days; {share} overall",
            "You chose {anchor}; others went on to {product}",
        ),
        "higher_version": Template(
            "{product} is a higher-value version of {anchor}",
            "You chose {anchor}; {product} is a higher version of it",
        ),
        "close_to": Template(
            "the account buys {anchor}; {product} is close to it, and new to the account",
            "New for you, and close to {anchor}",
        ),
        "same_category": Template(
            "the account buys {anchor} in {category}; {product} is new to it there",
            "New for you in {category}",
        ),
        "popular_with_peers": Template(
            "{n} of {n_of} accounts{group} have bought {product}",
            "Popular with customers like you",
        ),
        "popular_lately": Template(
            "{n} of {n_of} accounts{group} bought {product} in the {days} days before {as_of}",
            "Popular at the moment",
        ),
        "popular": Template(
            "{n} of {n_of} accounts{group} have bought {product}",
            "Popular with our customers",
        ),
        "few_yet": Template(
            "few have bought {product} yet, too few to be counted",
            "Something new for you: {product}",
        ),
    },
    beside_cart="{product} was in {n} of {n_of} orders with {anchor}; {share} overall",
    of_orders={
        "popular_lately": "{n} of {n_of} orders hold {product} in the {days} days before {as_of}",
        "popular": "{n} of {n_of} orders hold {product}",
    },
    group=" like this one (segment {segment})",
    dearer=Template("{reason}; {amount} a unit", "{reason}, {amount}"),
    under="under {share}",
    thousands=",",
    decimal=".",
    date="%Y-%m-%d",
)

_GERMAN: Final = Language(
    tag="de",
    templates={
        "bought_together": Template(
            "der Kunde kauft {anchor}: {n} von {n_of} Bestellungen damit enthalten auch {product}; insgesamt {share}",
            "Sie haben {anchor} gewählt; andere bestellen {product} dazu",
        ),
        "bought_next": Template(
            "{n} von {n_of} Kunden{group}, die {anchor} kaufen, nahmen binnen {days} Tagen {product} dazu; "
            "insgesamt {share}",
            "Sie haben {anchor} gewählt; andere nahmen danach {product} dazu",
        ),
        "upgraded": Template(
            "{n} von {n_of} Kunden{group}, die {anchor} kaufen, wechselten binnen {days} Tagen zu {product}; "
            "insgesamt {share}",
            "Sie haben {anchor} gewählt; andere sind zu {product} gewechselt",
        ),
        "higher_version": Template(
            "{product} ist eine höherwertige Ausführung von {anchor}",
            "Sie haben {anchor} gewählt; {product} ist eine höhere Ausführung davon",
        ),
        "close_to": Template(
            "der Kunde kauft {anchor}; {product} ist ähnlich und neu für ihn",
            "Neu für Sie und ähnlich wie {anchor}",
        ),
        "same_category": Template(
            "der Kunde kauft {anchor} aus {category}; {product} von dort ist neu für ihn",
            "Neu für Sie aus {category}",
        ),
        "popular_with_peers": Template(
            "{n} von {n_of} Kunden{group} haben {product} gekauft",
            "Beliebt bei Kunden wie Ihnen",
        ),
        "popular_lately": Template(
            "{n} von {n_of} Kunden{group} kauften {product} in den {days} Tagen vor dem {as_of}",
            "Zurzeit beliebt",
        ),
        "popular": Template(
            "{n} von {n_of} Kunden{group} haben {product} gekauft",
            "Bei unseren Kunden beliebt",
        ),
        "few_yet": Template(
            "erst wenige haben {product} gekauft, zu wenige zum Zählen",
            "Etwas Neues für Sie: {product}",
        ),
    },
    beside_cart="{product} war in {n} von {n_of} Bestellungen mit {anchor}; insgesamt {share}",
    of_orders={
        "popular_lately": "{n} von {n_of} Bestellungen enthalten {product}, in den {days} Tagen vor dem {as_of}",
        "popular": "{n} von {n_of} Bestellungen enthalten {product}",
    },
    group=" wie dieser (Segment {segment})",
    dearer=Template("{reason}; {amount} je Stück", "{reason}, {amount}"),
    under="unter {share}",
    thousands=".",
    decimal=",",
    date="%d.%m.%Y",
)

LANGUAGES: Final[Mapping[str, Language]] = MappingProxyType(
    {language.tag: language for language in (_ENGLISH, _GERMAN)}
)
"""By tag; the first is what is spoken where nothing names one that is here."""
