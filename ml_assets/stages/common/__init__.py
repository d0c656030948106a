"""What stages share: a model's plan, the decorator of a stage, checks, and who serves."""
