"""Policies and tasks as one number each, so that a log or another file can name them."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from fedfm.config.site import Policy
from fedfm.config.study import Task

POLICY_FILE = "policy.yaml"
"""The data-protection officer's file, beside the site file; stands in the place of its ``policy``."""


def policy_hash(policy: Policy) -> str:
    """Return the SHA-256 of the effective policy: the same however, and in which file, it was written."""
    return _hash_of(asdict(policy))


def task_hash(task: Task) -> str:
    """Return the SHA-256 of a resolved task, by which ``policy.tasks`` names it."""
    return _hash_of(asdict(task))


def _hash_of(settings: dict[str, Any]) -> str:
    text = json.dumps(settings, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
