"""The training stage: purchase history in, a registered and gated bundle out."""

from recsys.extras import require

require("train", what="training")
