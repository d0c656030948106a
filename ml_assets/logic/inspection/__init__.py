"""What a table of which nothing is declared yet can teach a model, and which columns would give the answer away."""
