"""Words for the catalogue of a wholesaler that supplies shops, hotels, offices and schools."""

from __future__ import annotations

from typing import Final

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
