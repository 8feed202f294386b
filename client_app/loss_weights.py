"""The weight of each training example at this site: what the study's reweighting asks, from noised tables alone."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from client_app.asked import Round
from client_app.data.groups import declared_groups
from client_app.noise import noised_sums
from client_app.reweighting import (
    Table,
    group_dro,
    group_label_table,
    group_loss_table,
    groups_to_weigh,
    kamiran_calders,
    noisy_table_once,
    weights_of,
)
from client_app.scores import logits_of, owners_of
from fedfm.config.problems import shown
from fedfm.config.site import Group
from fedfm.config.study import Study
from fedfm.errors import ConfigError
from fedfm.plan import sd


def loss_weights(asked: Round) -> Tensor:
    """Return float32[N], the weight of each training example in this round.

    What the weights are made of is charged before it is counted, and kept by the site's groups, so that who asks again
    for the same round gets the same weights and the ledger is not charged for them twice.
    """
    rule = REWEIGHTINGS.get(asked.study.reweighting.rule)
    return asked.prepared.train.weights if rule is None else rule(asked)


def refuse_unknown(study: Study) -> None:
    """Refuse a rule that this site does not have: examples would go on as if no weights had been asked for.

    Raises:
        ConfigError: With the rules that there are.
    """
    rule = study.reweighting.rule
    if rule not in REWEIGHTINGS and rule != "none":
        raise ConfigError(
            "STUDY-E034",
            "no rule of this name at the site",
            where="study received reweighting.rule",
            found=shown(rule),
            allowed=", ".join(["none", *REWEIGHTINGS]),
            fix="use the same fedfm version at the coordinator and at the site",
        )


def fixed_weights(asked: Round) -> Tensor:
    """Return float32[N], the weights that depend on no round: those of a rule that follows the losses are all 1."""
    return asked.prepared.train.weights if asked.study.reweighting.rule == "group_dro" else loss_weights(asked)


def _by_table(asked: Round) -> Tensor:
    """Weigh by the table of group and label (Kamiran and Calders), counted once in a run."""
    wanted, release, (attribute, group) = asked.study.reweighting, asked.plan.reweighting, _attribute(asked)
    if release is None or group is None:  # a hospital that cannot name the attribute
        return asked.prepared.train.weights
    groups = groups_to_weigh(group)

    def counted() -> Table:
        asked.charge("train", "reweighting", release)
        exact = group_label_table(asked.prepared.splits.train, attribute, groups, len(asked.study.task.labels))
        return noised_sums(exact, release.noise_multiplier)

    table = noisy_table_once(asked.kept("reweighting", of=groups), counted)
    weights = kamiran_calders(table, cap=float(wanted.params["cap"]))
    return weights_of(asked.prepared.splits.train, attribute, groups, weights)


def _by_group_losses(asked: Round) -> Tensor:
    """Weigh by the losses of the groups' audit patients under the models received so far."""
    params, release, (attribute, group) = asked.study.reweighting.params, asked.plan.group_losses, _attribute(asked)
    groups = declared_groups(group) if group else []
    if release is None or len(groups) < 2:  # nothing to weigh against each other, whatever the data hold
        return asked.prepared.train.weights
    noise = sd(release) * math.sqrt(2)  # a patient who comes or goes moves sums and counts by at most 1 each

    def summed() -> Table:
        asked.charge("audit", "group_losses", release)
        return noised_sums(_exact_losses(asked, attribute, groups), noise)

    number = asked.request.round
    *earlier, now = [asked.kept(f"group-losses-{at}", of=groups) for at in range(1, number + 1)]
    tables = [noisy_table_once(path, summed) for path in (*(path for path in earlier if path.exists()), now)]
    weights = group_dro(tables, noise=noise, step=float(params["step"]), cap=float(params["cap"]))
    by_label = np.repeat(weights[:, None], len(asked.study.task.labels), axis=1)
    return weights_of(asked.prepared.splits.train, attribute, groups, by_label)


def _exact_losses(asked: Round, attribute: str, groups: Sequence[str]) -> Table:
    """Sum losses of audit patients, and of nobody else, under the received model."""
    prepared, study = asked.prepared, asked.study
    examples = prepared.splits.audit
    logits = logits_of(prepared.model, prepared.audit, prepared.micro_batch, len(study.task.labels))
    losses = nn.functional.cross_entropy(logits, prepared.audit.labels, reduction="none").numpy()
    of = np.array([example.groups.get(attribute, "") for example in examples], dtype=str)
    owners = owners_of(examples, by_record=study.privacy.unit == "record")
    return group_loss_table(losses, owners, {group: of == group for group in groups})


def _attribute(asked: Round) -> tuple[str, Group | None]:
    """Return the attribute that the study weighs by, and what the site file says of it."""
    attribute = str(asked.study.reweighting.params["attribute"])
    return attribute, asked.site.data.groups.get(attribute)


REWEIGHTINGS: Mapping[str, Callable[[Round], Tensor]] = {
    "kamiran_calders": _by_table,
    "group_dro": _by_group_losses,
}
"""Rule to how it weighs; its names are the files of ``conf/reweighting``, but for ``none``."""
