"""The errors a person meets: each message gives the culprit, what was expected, what came, and the mend.

Programming errors stay out; they are ordinary Python exceptions.
"""


class ContractError(ValueError):
    """A table or artifact breaks its contract; the message lists every broken rule."""


class DataError(ValueError):
    """Data cannot be used as asked (empty, unreadable, too little); the message names the mend."""
