"""KPIs, offline metrics and experiment readout: works on tables and frames."""
