"""The HTML pages: the model card and the report of a backtest."""
