"""The file of business rules: what is taken, and what is told of a mistake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.cli import main
from recsys.errors import ConfigError
from recsys.offer_catalogue.business_rules import BusinessRule, parse_rules, read_rules

GOOD = b"""
# the first
[[rule]]
name = "no clearance for wholesale"
action = "block"
categories = ["Clearance"]
segments = ["wholesale"]
channels = ["web", "app"]
valid_from = 2026-03-01
valid_to = 2026-06-01T12:00:00+02:00
owner = "A. Buyer"
reason = "they buy it by contract"

[[rule]]
name = "ten off the tins"
action = "boost"
products = ["P1", "P2"]
factor = 1.5
discount_percent = 10
text = "Only this week"
owner = "B. Seller"
reason = "overstock"
"""


def rule(**changes: object) -> BusinessRule:
    return BusinessRule.model_validate(
        {"name": "r", "action": "block", "products": ("P1",), "owner": "o", "reason": "r"} | changes
    )


def test_a_file_is_read_with_times_in_utc() -> None:
    rules = parse_rules(GOOD, "rules.toml")
    first, second = rules.rules
    assert (first.valid_from, first.valid_to) == (
        datetime(2026, 3, 1, tzinfo=UTC),
        datetime(2026, 6, 1, 10, tzinfo=UTC),
    )
    assert (second.factor, second.discount_percent, second.text) == (1.5, 10, "Only this week")
    assert rules.version == parse_rules(GOOD, "elsewhere").version != parse_rules(GOOD + b"\n", "rules.toml").version
    assert parse_rules(b"", "empty").rules == ()


def test_a_rule_holds_from_its_first_moment_up_to_its_last() -> None:
    begin, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    rules = parse_rules(GOOD, "rules.toml")
    assert [one.name for one in rules.in_force(begin - timedelta(seconds=1))] == ["ten off the tins"]
    assert len(rules.in_force(begin)) == 2
    bounded = rule(valid_from=begin, valid_to=end)
    assert [bounded.holds(at) for at in (begin - timedelta(seconds=1), begin, end)] == [False, True, False]


def test_a_rule_is_about_every_segment_region_channel_and_surface_that_it_does_not_name() -> None:
    named = rule(segments=("s1", "s2"), channels=("web",))
    assert named.applies("s1", None, "web", None)
    assert named.applies("s2", "anywhere", "web", None)
    assert not named.applies("s3", None, "web", None)
    assert not named.applies(None, None, "web", None)
    assert not named.applies("s1", None, None, None)
    assert rule().applies(None, None, None, None)
    placed = rule(surfaces=("cart", "checkout"))
    assert placed.applies(None, None, None, "cart")
    assert not placed.applies(None, None, None, "home")
    assert not placed.applies(None, None, None, None)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b'action = "block"', b'action = "ban"', r"rules.toml: rule 1, line 3 \(no clearance for wholesale\): action"),
        (b'action = "boost"', b'action = "pin"', r"rule 2, line 14 .*factor must be given with action = 'boost'"),
        (b"factor = 1.5", b"factor = 0", r"rule 2, line 14 \(ten off the tins\): factor == 0: .*greater than 0"),
        (b"discount_percent = 10", b"discount_percent = 120", "discount_percent == 120: .*less than 100"),
        (b"factor = 1.5", b"", "factor must be given with action = 'boost', and with no other"),
        (b'categories = ["Clearance"]', b"", "products and categories are empty"),
        (b'owner = "A. Buyer"', b"", "rule 1, line 3 .*owner: Field required"),
        (b"valid_to = 2026-06-01T12:00:00+02:00", b"valid_to = 2026-03-01", "valid_to must lie after valid_from"),
        (b'name = "ten off the tins"', b'name = "no clearance for wholesale"', "rule 2, line 14: .*stands twice"),
        (b"factor = 1.5", b"factor = 1.5\nrank = 2", "rank must be given with action = 'pin' or 'require' only"),
        (b"factor = 1.5", b"factor 1.5", r"not valid TOML: .*line 18"),
        (b"# the first", b"colour = 3", "colour: a file of rules must hold"),
        (b"# the first", b"\xff", "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_rule_and_line(old: bytes, new: bytes, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=sentence):
        parse_rules(GOOD.replace(old, new), "rules.toml")


def test_a_pin_names_one_product_and_a_block_gives_nothing_away() -> None:
    with pytest.raises(ValueError, match="a pin must name one product"):
        rule(action="pin", products=("P1", "P2"))
    with pytest.raises(ValueError, match="it offers nothing"):
        rule(text="buy it")


def test_the_command_checks_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.toml").write_bytes(GOOD)
    with pytest.raises(SystemExit) as caught:
        main(["rules", "check", str(tmp_path / "rules.toml")])
    assert caught.value.code == 0
    assert f"2 rules, version {read_rules(tmp_path / 'rules.toml').version}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["rules", "check", str(tmp_path / "none.toml")])
    assert caught.value.code == 1
    assert "none.toml: No such file" in capsys.readouterr().err
