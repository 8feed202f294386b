"""A site's policy as one number, so that a log can say which one was in force."""

import hashlib
import json
from dataclasses import asdict

from fedfm.config.site import Policy


def policy_hash(policy: Policy) -> str:
    """Return the SHA-256 of the effective policy: the same however, and in which file, it was written."""
    text = json.dumps(asdict(policy), ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
