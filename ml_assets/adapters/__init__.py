"""Private names of libraries, one module per library: each with its reason, and the version that was last checked.

All other code uses public names only. `tests/adapters/test_private_names.py` reports each name that an upgrade removed.
An entry of MEMBERS without parentheses is an attribute; one with parentheses is a method or function, whose parameters
must begin with these.
"""
