"""What nobody chooses about a market: its marginals, which make it no toy, and the words of its catalogue.

The marginals are fitted to Online Retail II (UCI 502, D. Chen, CC BY 4.0), measured on its sale lines with a known
customer, 2009-12-01 to 2011-08-31, the overlap of the sheets, cancellations and non-product codes left out, one line
for each order and product: 600,828 lines, 29,534 orders, 5,224 accounts, 4,403 products. Only these summaries stand
here, no rows.

`MarketConfig` is what can be chosen about one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from pydantic import Field

from recsys.contracts.config import Config

# Orders a month, January to December 2010, over their mean: a peak before Christmas.
ORDERS_BY_MONTH: Final = (0.63, 0.72, 0.99, 0.87, 0.90, 0.98, 0.90, 0.84, 1.09, 1.39, 1.69, 1.00)
# Orders a weekday, Monday to Sunday, over their mean; closed on Saturdays.
ORDERS_BY_WEEKDAY: Final = (1.07, 1.26, 1.27, 1.47, 1.00, 0.01, 0.92)
# Orders an hour of the day, 0 to 23, as shares; the 0.001 keeps the clock invertible at night.
ORDERS_BY_HOUR: Final = (
    (0.001,) * 7 + (0.002, 0.025, 0.067, 0.120, 0.127, 0.166, 0.147, 0.122, 0.108, 0.061, 0.031, 0.012, 0.010, 0.002)
) + (0.001,) * 3
# Logarithm of a product's share of the lines = polynomial (constant first) in the normal score of its rank.
LOG_POPULARITY: Final = (0.0, 1.70, -0.159)
# Share of an order size's normal score that belongs to the account (the rest to the order).
ORDER_SIZE_ACCOUNT_SHARE: Final = 0.41
# Price a unit: mean and standard deviation of its logarithm over products.
LOG_PRICE_MEAN: Final = 0.70
LOG_PRICE_SD: Final = 0.95
# Logarithm of a line's quantity = mean + slope x log(price) + slope x log(lines of its order) + account + line.
LOG_QUANTITY_MEAN: Final = 3.60
LOG_QUANTITY_PRICE_SLOPE: Final = -0.64
LOG_QUANTITY_LINES_SLOPE: Final = -0.48
LOG_QUANTITY_ACCOUNT_SD: Final = 0.65
LOG_QUANTITY_LINE_SD: Final = 0.72
# Orders of one line beyond those of a geometric law, as a share.
SINGLE_LINE_SHARE: Final = 0.05
# Orders an active account places a day: mean and standard deviation of the logarithm over accounts.
LOG_ORDER_RATE_MEAN: Final = -4.60
LOG_ORDER_RATE_SD: Final = 0.95
# Accounts that mostly order once, as a share, and the probability that an order of theirs is the last.
ONE_OFF_SHARE: Final = 0.08
ONE_OFF_LAPSE: Final = 0.85
# Accounts that order at least this often (logarithm of orders a day: once in seven weeks) are regular; their lapses.
REGULAR_LOG_RATE: Final = -3.9
REGULAR_LAPSE_LOGIT_MEAN: Final = -3.9
REGULAR_LAPSE_LOGIT_SD: Final = 0.3
# The others lapse after an order with a probability whose logit has this mean and standard deviation.
LAPSE_LOGIT_MEAN: Final = -1.9
LAPSE_LOGIT_SD: Final = 1.2
# Share of the accounts that were customers before the market starts; the others arrive evenly.
SHARE_EXISTING: Final = 0.35
# A line is new with probability level x (1 + n / scale)^-decay (Pitman-Yor's law), n the account's earlier lines.
NEW_LEVEL: Final = 0.84
NEW_SCALE: Final = 40.0
NEW_DECAY: Final = 0.13

# Words of a wholesaler that supplies shops, hotels, offices and schools.
CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "Bakeware": ("Cake Tin", "Muffin Tray", "Rolling Pin", "Loaf Pan", "Pastry Brush", "Cooling Rack"),
    "Bathroom": ("Soap Dish", "Hand Towel", "Bath Mat", "Shower Caddy", "Toothbrush Cup", "Laundry Bag"),
    "Candles": ("Pillar Candle", "Tealight Holder", "Lantern", "Scented Candle", "Candle Plate", "Wax Melt"),
    "Christmas": ("Bauble Set", "Wreath", "Advent Calendar", "Tree Topper", "Gift Garland", "Stocking"),
    "Cleaning": ("Floor Cleaner", "Dish Soap", "Sponge Pack", "Mop Head", "Glass Spray", "Dust Cloth"),
    "Coffee and Tea": ("Espresso Beans", "Tea Caddy", "Coffee Filter", "Milk Jug", "Teapot", "Travel Mug"),
    "Cookware": ("Saucepan", "Frying Pan", "Casserole", "Stock Pot", "Griddle", "Wok"),
    "Crafts": ("Ribbon Roll", "Sketch Pad", "Paint Set", "Felt Sheet", "Glue Stick", "Bead Box"),
    "Garden": ("Plant Pot", "Watering Can", "Bird Feeder", "Garden Twine", "Seed Tray", "Hand Trowel"),
    "Gift Wrap": ("Gift Bag", "Wrapping Paper", "Gift Tag", "Tissue Pack", "Bow Set", "Gift Box"),
    "Glassware": ("Tumbler", "Wine Glass", "Carafe", "Storage Jar", "Champagne Flute", "Dessert Bowl"),
    "Home Decor": ("Photo Frame", "Wall Clock", "Vase", "Cushion Cover", "Door Hook", "Mirror"),
    "Kitchen Tools": ("Whisk", "Peeler", "Chopping Board", "Measuring Cup", "Spatula", "Kitchen Scale"),
    "Lighting": ("Desk Lamp", "String Light", "Night Light", "Lamp Shade", "Spotlight", "Bulb Pack"),
    "Outdoor": ("Picnic Rug", "Cool Bag", "Parasol", "Deck Chair", "Fire Bowl", "Windbreak"),
    "Paper and Office": ("Notebook", "Copy Paper", "Ballpoint Pack", "File Folder", "Desk Tidy", "Label Roll"),
    "Party": ("Paper Plate", "Balloon Pack", "Bunting", "Paper Cup", "Napkin Pack", "Party Hat"),
    "Storage": ("Storage Basket", "Drawer Box", "Wicker Hamper", "Shelf Bin", "Coat Hanger", "Toy Chest"),
    "Tableware": ("Dinner Plate", "Cereal Bowl", "Serving Dish", "Cutlery Set", "Egg Cup", "Place Mat"),
    "Toys": ("Wooden Train", "Jigsaw", "Skipping Rope", "Soft Bear", "Spinning Top", "Building Blocks"),
}
LINES: Final = (
    "Alder", "Amber", "Anchor", "Aspen", "Beacon", "Birch", "Bramble", "Breeze", "Cedar", "Clover", "Cobalt", "Coral",
    "Cotswold", "Daisy", "Dove", "Ember", "Fern", "Finch", "Fjord", "Flint", "Forest", "Garnet", "Glen", "Harbour",
    "Hazel", "Heather", "Heron", "Indigo", "Iris", "Ivy", "Jasper", "Juniper", "Kestrel", "Lark", "Laurel", "Linden",
    "Lupin", "Maple", "Marina", "Meadow", "Moss", "Nordic", "Oak", "Olive", "Orchard", "Osprey", "Pebble", "Pine",
    "Poppy", "Quartz", "Raven", "Robin", "Rowan", "Saffron", "Sage", "Slate", "Sorrel", "Thistle", "Willow", "Wren",
)  # fmt: skip
COLOURS: Final = ("Red", "Blue", "Green", "Cream", "Grey", "Black", "White", "Pink")
RUNGS: Final = ("Basic", "Plus", "Professional", "Master")
REGIONS: Final = ("Anglia", "London", "Midlands", "North", "Scotland", "South", "Wales", "West")
SEGMENTS: Final = ("independent shop", "hospitality", "office", "education", "chain store")
CHANNELS: Final = ("web", "phone", "field", "edi")


def family_name(category: int, number: int) -> str:
    """Return the name of the `number`-th family of a category, different for each number.

    >>> family_name(0, 0), family_name(0, 6), family_name(0, 360)
    ('Alder Cake Tin', 'Amber Cake Tin', 'Alder Cake Tin 2')
    """
    nouns = list(CATEGORIES.values())[category % len(CATEGORIES)]
    line, noun = divmod(number, len(nouns))
    series, line = divmod(line, len(LINES))
    return f"{LINES[line]} {nouns[noun]}" + (f" {series + 1}" if series else "")


class MarketConfig(Config):
    """Size, period and switches of a simulated market; the defaults resemble Online Retail II.

    With `needs`, `seasonality` and `drift` off, and given the sizes of the orders, the planted complement pairs are
    the only reason why two products stand in one order more often than chance, and the planted substitutes the only
    reason why two stand together less often.
    """

    # Accounts of the market, some of them without an order; 5,000 as in Online Retail II.
    n_accounts: int = Field(default=5_000, ge=1, le=10_000_000)
    # Products of the catalogue; 4,000 as in Online Retail II.
    n_products: int = Field(default=4_000, ge=100, le=200_000)
    # Same seed, same market; an account's own draws derive from the seed and its number alone.
    seed: int = Field(default=0, ge=0)
    # First moment of the market, UTC; the default makes the two years of a market whole calendar years.
    start: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    # Length in days; two years, so that each season is seen twice.
    days: int = Field(default=731, ge=30, le=3_650)
    # Multiplies every account's order rate; 1 gives the orders per account of Online Retail II.
    activity: float = Field(default=1.0, gt=0, le=20)
    # Mean distinct products in an order; 20.3 in Online Retail II.
    lines_per_order: float = Field(default=20.3, ge=1.5, le=200)
    # Accounts have tastes of their own: needed categories, repeat purchases, brands, and ladders that they climb.
    needs: bool = True
    # Orders and some products follow the months.
    seasonality: bool = True
    # Products are launched, retired, and gain or lose popularity.
    drift: bool = True
    # Share of the catalogue that stands in a planted complement pair; each product in one pair at the most.
    complement_share: float = Field(default=0.08, ge=0, le=0.3)
    # Share of the catalogue that stands in a planted pair of substitutes.
    substitute_share: float = Field(default=0.05, ge=0, le=0.3)
    # Share of the catalogue that stands on an upgrade ladder.
    ladder_share: float = Field(default=0.15, ge=0, le=0.4)
    # Accounts that are simulated at once: bounds the memory, changes no value.
    block_accounts: int = Field(default=4_000, ge=1)
