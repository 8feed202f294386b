"""Nothing calls home: no hub, no telemetry, no update check. One place for the variables that say so.

Libraries read them once, when they are imported. So every entry point calls ``go_offline`` above its other imports:
the trainer, both commands, the ServerApp and the engine. Flower's own programs are started by others, who hand them
``quiet``: the engine does, and an image sets them.
"""

import os
from collections.abc import MutableMapping

DOWNLOAD = "FEDFM_HUB_DOWNLOAD"
"""Environment variable; only where it is 1 may a hub model be downloaded. Otherwise: the local cache."""

NO_HUB = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
NO_REPORTS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}


def go_offline(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables of this process and of those it starts, whatever stood there.

    The hub stays within reach only where ``FEDFM_HUB_DOWNLOAD=1`` asks for it.
    """
    environment.update(quiet(downloads=environment.get(DOWNLOAD) == "1"))


def quiet(*, downloads: bool = False) -> dict[str, str]:
    """Return the variables by which nothing calls home; with ``downloads`` the hub may still be asked for a model."""
    return NO_REPORTS | ({} if downloads else NO_HUB)
