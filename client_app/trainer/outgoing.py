"""What may leave the trainer: the list of each answer's parts, and what each may hold, for what was asked.

The code that makes an answer is large and sees patients. This is small and sees none: a part that is not on the list, a
name that study and site file do not have, an array of another shape, or a number that is none keeps the answer back,
whatever made it.
"""

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_app.asked import Round
from client_app.data.groups import declared_groups
from client_app.fine_tuning import steps_of
from client_app.trainer.incidents import kept_back
from fedfm.arrays import layout
from fedfm.config.site import Site
from fedfm.explanations import check_names, sum_names
from fedfm.metrics.counts import columns
from fedfm.metrics.suppression import OTHER
from fedfm.plan import explains
from fedfm.schedule import audit_group_rounds, check_rounds, closing_round, explanation_rounds, group_rounds
from fedfm.signals import asks_losses, audit_attribute
from fedfm.statistics import width
from fedfm.wire import Description, EvaluateReply, PrivacySpent, SummariseReply, TrainReply

Reply = Description | SummariseReply | TrainReply | EvaluateReply
Tables = Mapping[str, NDArray[np.float64]]

_DIGEST = re.compile(r"[0-9a-f]{64}")


def check(reply: Reply, asked: Round) -> None:
    """Return if all of an answer is what was asked for, and of nothing else.

    Raises:
        FedFMError: SITE-E136 with the first part that is not, and a number; the log says what stood there.
    """
    _known(reply)
    _equal("site", reply.site, asked.site.id)
    if not isinstance(reply, Description):
        _equal("round", reply.round, asked.request.round)
        _numbers("seconds", reply.seconds)
    _check_spent(reply.privacy, asked)
    _CHECKS[type(reply)](reply, asked)


def _known(told: Any) -> None:  # noqa: ANN401 - an answer or a part of it
    """Keep back an answer of another class, or with more in it than its class declares."""
    if not is_dataclass(told) or set(vars(told)) != {part.name for part in fields(told)}:
        raise kept_back("answer", told)


def _check_spent(spent: PrivacySpent, asked: Round) -> None:
    private = asked.study.privacy
    _known(spent)
    _equal("privacy.unit", spent.unit, "none" if private.mechanism == "none" else private.unit)
    _equal("privacy.delta", spent.delta, asked.plan.delta)
    _equal("privacy.planned", spent.planned, asked.plan.planned)
    _equal("privacy.noise_multiplier", spent.noise_multiplier, asked.plan.training.noise_multiplier)
    for name in ("train", "audit", "test", "run"):
        value = getattr(spent, name)
        if value != math.inf:  # which says that nothing protects the patients of a split
            _numbers(f"privacy.{name}", value)
    for entries, seal in ((spent.entries, spent.seal), (spent.audit_entries, spent.audit_seal)):
        _whole("privacy.entries", entries, most=2**53)
        if not isinstance(seal, str) or bool(seal) != bool(entries) or (seal and not _DIGEST.fullmatch(seal)):
            raise kept_back("privacy.seal", seal)


def _check_description(reply: Description, asked: Round) -> None:
    _equal("declared_patients", reply.declared_patients, asked.site.declared_patients)
    _equal("layout", reply.layout, layout(asked.prepared.start))
    if reply.device not in ("cpu", "cuda"):
        raise kept_back("device", reply.device)
    _among("groups", reply.groups, set(asked.study.task.groups) & set(asked.site.data.groups))


def _check_sums(reply: SummariseReply, asked: Round) -> None:
    _table("sums", reply.sums, [(width(asked.study, inputs=asked.prepared.model.standard.mean.numel()),)])
    _noise("sums", reply.sums_sd, size=reply.sums.size, may_be_exact=_is_open(asked))


def _check_update(reply: TrainReply, asked: Round) -> None:
    study, sent = asked.study, asked.request.parameters
    _equal("layout", reply.layout, asked.request.layout)
    _equal("declared_patients", reply.declared_patients, asked.site.declared_patients)
    _equal("steps", reply.steps, steps_of(asked))
    if not isinstance(reply.downweighted, bool):
        raise kept_back("downweighted", reply.downweighted)
    if set(reply.update) != set(sent):
        raise kept_back("update", sorted(set(reply.update) ^ set(sent)))
    for name, array in reply.update.items():
        _table("update", array, [sent[name].shape], dtype=np.float32)
    is_asked = explains(study) and reply.round in check_rounds(study)
    _sums("check", (reply.check, reply.check_sd), check_names(study) if is_asked else (), asked)


def _check_counts(reply: EvaluateReply, asked: Round) -> None:
    study, classes = asked.study, len(asked.study.task.labels)
    is_last, exact = reply.round == closing_round(study), _is_exact(asked)
    full = columns(classes, bins=study.evaluation.bins, is_last=is_last)
    shapes = [(classes, k) for k in ({full, columns(classes, bins=2, is_last=True), 0} if exact else {full})]
    _table("cells", reply.cells, shapes)
    _noise("cells", reply.cells_sd, size=reply.cells.size, may_be_exact=exact)
    is_asked = is_last and study.baseline.method == "alone"
    _table("alone", reply.alone, [*(shapes if is_asked else ()), (classes, 0)])
    _noise("alone", reply.alone_sd, size=reply.alone.size, may_be_exact=exact)
    _check_groups(reply, asked)
    _sums("losses", (reply.losses, reply.losses_sd), ("loss", "patients") if asks_losses(study) else (), asked)
    is_asked = explains(study) and reply.round in explanation_rounds(study)
    _sums("explanation", (reply.explanation, reply.explanation_sd), sum_names(study) if is_asked else (), asked)
    _table("terms", reply.terms, [(2, len(study.explainability.vocabulary) if is_asked else 0), (2, 0)])
    for name, added in (("terms", reply.terms_sd), ("term_documents", reply.term_documents_sd)):
        _noise(name, added, size=reply.terms.size, may_be_exact=_is_open(asked))


def _check_groups(reply: EvaluateReply, asked: Round) -> None:
    study, classes = asked.study, len(asked.study.task.labels)
    is_last, exact = reply.round == closing_round(study), _is_exact(asked)
    full = columns(classes, bins=study.evaluation.group_bins, is_last=is_last)
    counted = [*study.task.groups, *study.task.intersections] if reply.round in group_rounds(study) else []
    widths = {full, columns(classes, bins=2, is_last=True)} if exact else {full}
    _tables("groups", reply.groups, set(_groups(asked.site, counted)), [(classes, k) for k in widths])
    _noise("groups", reply.groups_sd, size=len(reply.groups), may_be_exact=exact)
    name = audit_attribute(study)
    counted = [name] if name and reply.round in audit_group_rounds(study) else []
    _tables("audit_groups", reply.audit_groups, set(_groups(asked.site, counted)), [(classes, classes)])
    _noise("audit_groups", reply.audit_groups_sd, size=len(reply.audit_groups), may_be_exact=_is_open(asked))


_CHECKS: Mapping[type, Callable[[Any, Round], None]] = {
    Description: _check_description,
    SummariseReply: _check_sums,
    TrainReply: _check_update,
    EvaluateReply: _check_counts,
}
"""Answer to what its own parts may hold; another answer does not leave."""


def _groups(site: Site, names: Collection[str]) -> Iterator[str]:
    """Yield ``attribute=group`` for all groups that the site file lists, and what they are merged into."""
    for name in names:
        known = [site.data.groups.get(attribute) for attribute in name.split("*")]
        if all(known):
            of_each = [[*declared_groups(group), OTHER] for group in known if group]
            yield from (f"{name}={'*'.join(groups)}" for groups in itertools.product(*of_each))


def _is_open(asked: Round) -> bool:
    return asked.study.privacy.mechanism == "none"


def _is_exact(asked: Round) -> bool:
    return asked.study.evaluation.release == "exact" or _is_open(asked)


def _equal(part: str, told: object, expected: object) -> None:
    if type(told) is not type(expected) or told != expected:
        raise kept_back(part, told)


def _among(part: str, told: Collection[str], known: Collection[str]) -> None:
    if not set(told) <= set(known) or len(set(told)) != len(told):
        raise kept_back(part, sorted(set(told) - set(known)))


def _whole(part: str, told: object, *, most: int) -> None:
    if not isinstance(told, int) or isinstance(told, bool) or not 0 <= told <= most:
        raise kept_back(part, told)


def _numbers(part: str, *told: object) -> None:
    for number in told:
        if not isinstance(number, float) or not 0 <= number < math.inf:
            raise kept_back(part, number)


def _noise(part: str, added: object, *, size: int, may_be_exact: bool) -> None:
    """Keep back figures that bear no noise in a study with a mechanism: whatever made them has forgotten it."""
    _numbers(f"{part}_sd", added)
    if size and added == 0 and not may_be_exact:
        raise kept_back(f"{part}_sd", "no noise")


def _table(part: str, told: object, shapes: Collection[tuple[int, ...]], *, dtype: type = np.float64) -> None:
    if not isinstance(told, np.ndarray) or told.dtype != dtype or told.shape not in shapes:
        raise kept_back(part, (type(told).__name__, getattr(told, "dtype", ""), getattr(told, "shape", "")))
    if not np.isfinite(told).all():
        raise kept_back(part, "numbers that are not finite")


def _tables(part: str, told: Tables, known: Collection[str], shapes: Collection[tuple[int, ...]]) -> None:
    _among(part, list(told), known)
    for table in told.values():
        _table(part, table, shapes)


def _sums(part: str, told: tuple[Mapping[str, float], float], names: Collection[str], asked: Round) -> None:
    """Sums come under all their names, or not at all: a site may withhold exact ones."""
    sums, added = told
    if sums and set(sums) != set(names):
        raise kept_back(part, sorted(set(sums) ^ set(names)))
    for value in sums.values():
        if not isinstance(value, float) or not math.isfinite(value):
            raise kept_back(part, value)
    _noise(part, added, size=len(sums), may_be_exact=_is_open(asked))
