"""The serving stage: ranked offers over HTTP, each durable before it is answered."""

from recsys.extras import require

require("serve", what="serving")
