"""Errors that a person can act on: printed without a traceback by the command line."""

from __future__ import annotations


class UserError(Exception):
    """Something in the input, the recipe or the machine is wrong; the message says what and how to mend it."""


class PartialFailure(UserError):
    """The run ended, but some shards failed for good; the message names them and where their errors are."""


class Refusal(UserError):
    """A piece of work says that what is asked of it cannot be done: another try, on any machine, says so again.

    Args:
        trace: of the error behind it; it does not travel from a worker by itself.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return str(self.args[0])
