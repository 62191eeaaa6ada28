"""The seven main calls through a client that is generated from the document; the server's URL is the argument."""

# mypy: ignore-errors
import json
import sys

from offer_engine_client import Client
from offer_engine_client.api.offers import account_offers, offers
from offer_engine_client.api.orders import orders
from offer_engine_client.api.outcomes import outcomes
from offer_engine_client.api.pages import complements, upgrades, why_not
from offer_engine_client.models import (
    CartLineBody,
    OffersBody,
    OrderBody,
    OrderLineBody,
    OrdersBody,
    OutcomeBody,
    OutcomeBodyKind,
    OutcomesBody,
    WhyNotBody,
)

client = Client(base_url=sys.argv[1])
answer = offers.sync(client=client, body=OffersBody(account_id="A1", cart=[CartLineBody(product_id="P06")], limit=3))
product_id = answer.offers[0].product_id
shown = OutcomeBody(outcome_id="o1", decision_id=answer.decision_id, kind=OutcomeBodyKind.SHOWN)
order = OrderBody(order_id="w1", account_id="A1", lines=[OrderLineBody(product_id=product_id)])
found = [
    answer.returned,
    account_offers.sync("A1", client=client, limit=2).returned,
    complements.sync("P06", client=client).offers[0].product_id,
    upgrades.sync("P06", client=client).returned,
    why_not.sync(answer.decision_id, client=client, body=WhyNotBody(product_id=product_id)).code,
    outcomes.sync(client=client, body=OutcomesBody(outcomes=[shown])).received,
    orders.sync(client=client, body=OrdersBody(orders=[order])).received_lines,
]
print(json.dumps(found))
