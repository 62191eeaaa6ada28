"""The ladder of baselines that every backtest runs beside the engine, weakest first."""
