"""The gate, the promotion log's decisions, the watch after a promotion, and the budget."""
