"""The readout of an experiment: health, effects, verdict."""
