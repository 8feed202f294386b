"""What the coordinator's rules ask of the sites beside their updates: public, so that a site plans its noise by it.

A rule that needs nothing asks for nothing, and costs nothing.
"""

from collections.abc import Mapping

from fedfm.config.study import Study

LOSS, GROUPS, GRAM, STEPS = "loss", "groups", "gram", "steps"
"""Loss and group counts of audit patients; inner products of updates; optimiser steps taken."""

WEIGHTING_NEEDS: Mapping[str, frozenset[str]] = {
    "cohort": frozenset(),
    "uniform": frozenset(),
    "power": frozenset({LOSS}),
    "tilt": frozenset({LOSS}),
    "propfair": frozenset({LOSS}),
    "dro": frozenset({LOSS}),
    "fairfed": frozenset({GROUPS}),
    "mgda": frozenset({GRAM}),
    "cgsv": frozenset({GRAM}),
    "fedfv": frozenset({LOSS, GRAM}),
    "fednova": frozenset({STEPS}),
}
"""Weighting rule to what it looks at beside the cohorts; its names are those of ``server_app.weighting``."""

SELECTION_NEEDS: Mapping[str, frozenset[str]] = {
    "all": frozenset(),
    "fraction": frozenset(),
    "power_of_choice": frozenset({LOSS}),
    "budget_aware": frozenset(),
}
"""Selection rule to what it looks at; its names are those of ``server_app.selection``."""


def asks_losses(study: Study) -> bool:
    """Whether the loss of audit patients is summed in each evaluation: for the report, or for a rule."""
    weighting = WEIGHTING_NEEDS.get(study.weighting.rule, frozenset())
    selection = SELECTION_NEEDS.get(study.selection.rule, frozenset())
    return study.evaluation.audit_loss or study.fairness.final == "best" or LOSS in weighting | selection


def audit_attribute(study: Study) -> str:
    """Return the attribute by which audit patients are counted in each evaluation; empty where no rule asks."""
    asks = GROUPS in WEIGHTING_NEEDS.get(study.weighting.rule, frozenset())
    return str(study.weighting.params.get("attribute", "")) if asks else ""


def group_loss_attribute(study: Study) -> str:
    """Return the attribute by which the site sums losses of audit patients in each round, to weigh its examples."""
    return str(study.reweighting.params.get("attribute", "")) if study.reweighting.rule == "group_dro" else ""
