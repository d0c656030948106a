"""A project and its lake as release 0.1.0 wrote them. `tests/test_golden_0_1_0.py` reads them with today's code."""
