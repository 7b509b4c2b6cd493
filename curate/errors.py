"""Errors that a person can act on: printed without a traceback by the command line."""

from __future__ import annotations


class UserError(Exception):
    """Something in the input, the recipe or the machine is wrong; the message says what and how to mend it."""


class PartialFailure(UserError):
    """The run ended, but some shards failed for good; the message names them and where their errors are."""
