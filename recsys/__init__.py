"""The engine: from purchase history to ranked offers and to the readout of what they earned."""
