"""Algorithm 1, line 9: the hospital looks at the reasons of the model that it is about to send.

Exact figures, gates and their history are for the site's people: they stay in the trainer's log and the state folder.
What the coordinator hears, and whether the update is sent, is made of noised sums alone (``fedfm.explain.sum_gates``).
"""

import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from client_app.asked import Round
from client_app.data.groups import declared_groups
from client_app.reasons import check_history, checked_model, gates, retention
from client_app.reasons.checks import audit_documents, leanings, look, with_own, without_what_was_learned
from client_app.reasons.explained import release_of_check, sums_of_check
from client_app.reasons.gates import Gate
from client_app.scores import logits_of
from client_app.small_cells import shown_sums
from client_app.training import Cohort
from fedfm.arrays import Arrays, norm
from fedfm.errors import Withheld
from fedfm.examples import Example
from fedfm.explain.audit import Audit
from fedfm.explain.sum_gates import counted, of_model
from fedfm.explanations import HEAD_MOST, rises
from fedfm.metrics.counts import LOSS_CAP
from fedfm.schedule import full_check_rounds, warm_up_rounds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """What leaves of a check; the fields of ``TrainReply`` of the same names."""

    check: Mapping[str, float] = field(default_factory=dict)
    check_sd: float = 0.0
    downweighted: bool = False


@dataclass(frozen=True)
class Begun:
    """What must be known of the received model before it is trained; exact.

    Attributes:
        documents: N audit documents.
        losses: float64[N] of the received model, in nats.
        leanings: Figures of every list to float64[N], of the received model.
    """

    documents: list[Example]
    losses: NDArray[np.float64]
    leanings: gates.Figures


def begin(asked: Round) -> Begun | None:
    """Charge what will leave of the check, and look at the received model; None where no reasons are asked for.

    Guarantees:
        The model and its gradients are left as they are.

    Raises:
        PrivacyBudgetExceeded: The budget does not allow it; nothing was computed.
    """
    if asked.plan.check is None:
        return None
    release = release_of_check(asked)
    if release is not None:
        asked.charge("audit", "check", release)
    documents, settings = audit_documents(asked), asked.study.explainability
    watched = with_own(settings, asked.site.explanations)
    leaning = leanings(asked.prepared.model, documents, settings, watched=watched)
    return Begun(documents, _losses(asked, documents), leaning)


def finish(asked: Round, begun: Begun | None, update: Arrays) -> Check:
    """Look at the reasons of the model that is loaded: log and keep what is found; return what leaves of it.

    Args:
        asked: The request; its model is trained.
        begun: What ``begin`` returned.
        update: Its parameters minus those received.

    Guarantees:
        The model and its gradients are left as they are.

    Raises:
        Withheld: The site does not send what does not pass.
        FedFMError: The check, or the model for those who look at it later, cannot be kept.
    """
    if begun is None:
        return Check()
    release = release_of_check(asked)
    is_full = release is not None or asked.request.round in full_check_rounds(asked.study)
    found = looked(asked, begun, randomised=is_full)
    figures = dict(found.sums)
    if is_full:
        settings, model = asked.study.explainability, asked.prepared.model
        figures["randomised_all"] = without_what_was_learned(model, begun.documents, settings, found=found)
    _check_here(asked, begun, figures, update=update, is_full=is_full)
    checked_model.keep(asked)
    retention.remove_old(asked, now=datetime.datetime.now(datetime.UTC))
    if release is None:
        return Check()
    sums, added = sums_of_check(asked, found, release, documents=len(begun.documents))
    return _acted(asked, shown_sums(asked, sums) if added == 0 else sums, added)


def looked(asked: Round, begun: Begun, *, randomised: bool) -> Audit:
    """Return the figures of the model that is loaded, and how much more it leans on each list than the received one."""
    settings = asked.study.explainability
    watched = with_own(settings, asked.site.explanations)
    found = look(asked.prepared.model, begun.documents, settings, watched=watched, randomised=randomised)
    return replace(found, sums={**found.sums, **rises(found.sums, begun.leanings)})


def _acted(asked: Round, sums: Mapping[str, float], added: float) -> Check:
    """Judge the sums as they leave, and do what the site's policy says about the model."""
    failed = of_model(counted(asked.study, asked.request.round, sums, sd=added))
    action = asked.site.policy.on_failed_check
    if failed and action == "withhold":
        raise Withheld(
            "SITE-E168",
            "the trained model decides for reasons that do not hold, and is not sent",
            where=f"policy.on_failed_check of {asked.site.id}",
            found=", ".join(failed),
            fix="look at the report's part on reasons; change the study, or let the hospital set flag or downweight",
        )
    return Check(sums, added, downweighted=bool(failed) and action == "downweight")


def _check_here(asked: Round, begun: Begun, figures: gates.Figures, *, update: Arrays, is_full: bool) -> None:
    """Judge the exact figures, and log and keep them for the site's own people."""
    last = check_history.last_before(asked)
    norms, length = () if last is None else last.norms, norm(update)
    losses = _losses(asked, begun.documents)
    received = {_of_received(name): values for name, values in begun.leanings.items()}
    judged = [
        gates.update(length, norms),
        *_gates(asked, begun.documents, figures, last),
        gates.utility(begun.losses, losses, _rng()),
    ]
    counts = asked.request.round > warm_up_rounds(asked.study)
    _log(judged, number=asked.request.round, counts=counts)
    check_history.keep(
        asked,
        begun.documents,
        {**figures, **received, "loss_before": begun.losses, "loss": losses},
        full=is_full,
        counts=counts,
        gates=tuple(judged),
        norms=(*norms, *([length] if np.isfinite(length) else [])),
    )


def _gates(
    asked: Round, documents: Sequence[Example], figures: gates.Figures, last: check_history.Kept | None
) -> Iterator[Gate]:
    """Yield what each limit says of the reasons; each draws documents of its own."""
    yield gates.faithfulness(figures, _rng())
    yield gates.completeness(figures, _rng())
    if last is not None:
        yield gates.regression(*_in_both(documents, figures["comprehensiveness"], last), _rng())
    for name, limit in (("randomised_head", HEAD_MOST), ("randomised_all", gates.ALL_MOST)):
        if name in figures:
            yield gates.randomisation(name.replace("randomised", "randomisation"), figures[name], limit, _rng())
    for name in figures:
        figure, _, words = name.partition(":")
        if figure == "mass_rise":
            mass, share = figures[f"shortcut_mass:{words}"], figures[f"shortcut_share:{words}"]
            yield gates.shortcut(words, mass, share, rise=figures[name], rng=_rng())
        elif figure == "swap_rise":
            yield gates.swap(words, figures[f"swap_flip:{words}"], rise=figures[name], rng=_rng())
    gains = figures["comprehensiveness"] - figures["random_order"]
    for attribute, group in asked.site.data.groups.items():
        of = [example.groups.get(attribute, "") for example in documents]
        yield gates.groups(attribute, gains, of, declared_groups(group), _rng())


def _in_both(
    documents: Sequence[Example], now: NDArray[np.float64], last: check_history.Kept
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the figure of the documents that the last check has looked at too, of this model and of that one."""
    before = dict(zip(last.keys, last.figures.get("comprehensiveness", ()), strict=False))
    pairs = [
        (value, before[key])
        for key, value in zip(check_history.keys_of(documents), now.tolist(), strict=True)
        if key in before
    ]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _of_received(name: str) -> str:
    """Return ``figure_before:list`` for ``figure:list``."""
    figure, _, words = name.partition(":")
    return f"{figure}_before:{words}"


def _losses(asked: Round, documents: Sequence[Example]) -> NDArray[np.float64]:
    """Return float64[N] cross-entropy of the model that is loaded, in nats, what cannot be computed at most."""
    prepared = asked.prepared
    places = {id(example): place for place, example in enumerate(prepared.splits.audit)}
    chosen = [places[id(document)] for document in documents]
    cohort = Cohort(
        [prepared.audit.states[i] for i in chosen], prepared.audit.labels[chosen], [], prepared.audit.weights
    )
    logits = logits_of(prepared.model, cohort, prepared.micro_batch, len(asked.study.task.labels))
    losses = nn.functional.cross_entropy(logits, cohort.labels, reduction="none").numpy()
    found: NDArray[np.float64] = np.clip(np.nan_to_num(losses, nan=LOSS_CAP), 0.0, LOSS_CAP)
    return found


def _log(judged: Sequence[Gate], *, number: int, counts: bool) -> None:
    """Say for the site's own people whether the reasons hold, and which do not."""
    broken = [gate for gate in judged if gate.passed is False]
    told, open_ = len([gate for gate in judged if gate.passed]), len([gate for gate in judged if gate.passed is None])
    spared = "" if counts else "; one of the first rounds, in which no gate counts"
    logger.info(
        "round %d: %s: %d of %d gates passed, %d cannot be judged%s",
        *(number, verdict_of(judged), told, len(judged), open_, spared),
    )
    for gate in broken:
        found = "" if gate.estimate is None else f" ({gate.estimate.value:+.3f}, limit {gate.limit:+.3f})"
        logger.warning("round %d: %s: %s%s", number, gate.name, gate.reason, found)


def verdict_of(judged: Sequence[Gate]) -> str:
    """Return in words what the gates say of the reasons; length and loss of the update are no reasons."""
    of_reasons = {gate.name: gate.passed for gate in judged if gate.name not in _OF_TRAINING}
    if False in of_reasons.values():
        return "REASONS DO NOT HOLD"
    return "reasons cannot be judged" if of_reasons.get("faithfulness") is None else "reasons hold"


_OF_TRAINING = ("update", "utility")


def _rng() -> np.random.Generator:
    return np.random.default_rng()
