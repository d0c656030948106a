"""Training a LightGBM model: encoding, importances, tuning, fitting, explaining."""
