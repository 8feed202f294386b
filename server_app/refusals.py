"""From Flower's error replies to a code and a plain reason; a stranger's text is not passed on."""

import re

from flwr.app import Error

from fedfm.errors import FedFMError

_OURS = re.compile(r"(?P<code>[A-Z]+-E\d{3}) (?P<reason>.+)", re.DOTALL)

_FLOWER = {
    1: "the site could not load the ClientApp; its fedfm release may differ",
    2: "the ClientApp failed; the hospital's own log says more",
    3: "the request expired or was lost",
    4: "the answer expired or was lost",
    5: "the site's SuperNode went offline",
    6: "the site's Flower mods refused the request",
    7: "the site did not accept the app's bundle",
    8: "the ClientApp stopped in the middle; out of memory or killed",
}


def refusal(error: Error) -> tuple[str, str]:
    """Return the code and the reason of an error reply.

    Texts that begin with a code of ours were made to leave the hospital and are passed on. Of others
    only Flower's number is: an unexpected exception's text may quote a patient's row.
    """
    match = _OURS.fullmatch(error.reason or "")
    if match:
        return match["code"], match["reason"]
    return f"FLOWER-E{error.code:03d}", _FLOWER.get(error.code, "the site failed; its own log says more")


def refusal_of(problem: Exception) -> tuple[str, str]:
    """Return the code of what went wrong with one site's answer, and a text without the code.

    Of an error that is not ours only the type is told: its text may quote what the site sent.
    """
    if isinstance(problem, FedFMError):
        return problem.code, str(problem).removeprefix(f"{problem.code} ")
    return "ROUND-E018", f"unreadable answer ({type(problem).__name__})"
