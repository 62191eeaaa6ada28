"""The shapes of requests and answers; they are not the domain's types."""
