"""Faults that nobody foresaw: the whole text stays at the hospital, a number leaves."""

import logging
import uuid

from fedfm.errors import FedFMError

logger = logging.getLogger(__name__)


def as_refusal(error: Exception) -> FedFMError:
    """Return an error that may leave the hospital.

    Guarantees:
        A ``FedFMError`` is returned as it is. Of anything else, only a number leaves; its text and
        trace, which may quote a patient's row, go to the local log under that number.
    """
    if isinstance(error, FedFMError):
        return error
    number = uuid.uuid4().hex[:8]
    logger.error("incident %s", number, exc_info=error)
    return FedFMError(
        "SITE-E500",
        f"internal error, incident {number}",
        fix="ask the site to look for this number in its trainer's log",
    )
