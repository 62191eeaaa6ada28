"""The serving stage: ranked offers over HTTP, each durable before it is answered."""
