"""Generated tables of other fields, models that others would train on them, and the metrics of both."""
