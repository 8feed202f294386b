"""What an error may say where it leaves: a code and a text that are ours; of all else a number that the log explains.

Free of torch: the ClientApp's process says so, too.
"""

import logging
import re
import uuid

from fedfm.errors import FedFMError

logger = logging.getLogger(__name__)

LONGEST_TEXT = 4000
"""Characters of a refusal; all problems of a study may be more, and whoever mends the first ones sees the others."""

_CODE = re.compile(r"(SITE|STUDY|MODEL|WIRE)-E\d{3}")
_FIX = "ask the site to look for this number in its trainer's log"


def as_refusal(error: BaseException) -> FedFMError:
    """Return an error that may leave the hospital.

    Guarantees:
        A ``FedFMError`` with a code of a hospital keeps code and text, cut to ``LONGEST_TEXT`` and without letters that
        cannot be printed. Of anything else, only a number leaves; its text and trace, which may quote a patient's row,
        go to the local log under that number.
    """
    if isinstance(error, FedFMError) and _CODE.fullmatch(error.code):
        return FedFMError.received(error.code, printable(str(error)))
    number = _number()
    logger.error("incident %s", number, exc_info=error)
    return FedFMError("SITE-E500", f"internal error, incident {number}", fix=_FIX)


def kept_back(part: str, found: object) -> FedFMError:
    """Return the error of an answer that does not leave, because it is not what was asked for.

    Args:
        part: Which part of the answer, a word of this project's own; it leaves.
        found: What stands there; goes to the local log alone.
    """
    number = _number()
    logger.error("incident %s: an answer was kept back: %s: %.2000r", number, part, found)
    what = f"an answer that is not what may leave was kept back, incident {number}"
    return FedFMError("SITE-E136", what, where=part, fix=_FIX)


def _number() -> str:
    return uuid.uuid4().hex[:8]


def printable(text: str) -> str:
    """Return the text as one that any process can take: letters that can be printed, and line feeds."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text[:LONGEST_TEXT])
    return shown if len(text) <= LONGEST_TEXT else f"{shown} …"
