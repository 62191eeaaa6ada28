// The seven main calls through a client that is generated from the document; the server's URL is the argument.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });

function must<T>(answer: { data?: T; error?: components["schemas"]["Problem"]; response: Response }): T {
  if (answer.data === undefined) throw new Error(`${answer.response.status}: ${answer.error?.detail}`);
  return answer.data;
}

const asked = { account_id: "A1", cart: [{ product_id: "P06" }], limit: 3 };
const offers = must(await client.POST("/v1/offers", { body: asked }));
const path = { account_id: "A1" };
const account = must(await client.GET("/v1/accounts/{account_id}/offers", { params: { path, query: { limit: 2 } } }));
const product = { product_id: "P06" };
const complements = must(await client.GET("/v1/products/{product_id}/complements", { params: { path: product } }));
const upgrades = must(await client.GET("/v1/products/{product_id}/upgrades", { params: { path: product } }));

const { decision_id } = offers;
const product_id = offers.offers[0]?.product_id ?? "none";
const whyNot = must(
  await client.POST("/v1/decisions/{decision_id}/why-not", { params: { path: { decision_id } }, body: { product_id } }),
);
const shown = { outcome_id: "o1", decision_id, kind: "shown" as const };
const outcomes = must(await client.POST("/v1/outcomes", { body: { outcomes: [shown] } }));
const order = { order_id: "w1", account_id: "A1", lines: [{ product_id }] };
const orders = must(await client.POST("/v1/orders", { body: { orders: [order] } }));

const found: (string | number)[] = [
  offers.returned,
  account.returned,
  complements.offers[0]?.product_id ?? "none",
  upgrades.returned,
  whyNot.code,
  outcomes.received,
  orders.received_lines,
];
console.log(JSON.stringify(found));
