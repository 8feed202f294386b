"""The empirical audit of a study's privacy at this hospital: does the code keep what the plan claims?

Entirely local. Nothing is released, so nothing is charged: the ledger is neither read nor written. Two parts:
planted canaries, which involve no patient, and an attack on models of the hospital's own training patients,
whose figures are computed without noise and must stay.
"""

import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, TaskID

from client_app.canaries import CanaryResult, audit_canaries
from client_app.cohorts import Prepared, prepare
from client_app.membership import Claim, Members, MembershipResult, Scores, attack, halves, judge
from client_app.noise import secure_uniform
from client_app.private_step import Mechanism
from client_app.site import agreed_plan
from client_app.training import Cohort, by_length, fine_tune_by_unit, fine_tune_openly
from fedfm.config.compose import study_from_json
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import ConfigError
from fedfm.gaussian import best_area
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable
from fedfm.plan import Plan
from fedfm.privacy import Release, epsilon, mu_of

Tell = Callable[[str, int, int], None]
"""Is called with what is done, how much of it, and how much there is."""

KEEP = (
    "Do not share this output: the attack was made on real patients, and its figures carry no noise. "
    "Nothing was sent, and the ledger was not touched."
)
SYNTHETIC = "No patient was involved: planted canaries only. Nothing was sent, and the ledger was not touched."


_SURE = 100.0  # log odds; beyond, nothing more is learned


@dataclass(frozen=True)
class Audit:
    """What was found; None for a part that was not run."""

    claim: Claim
    canaries: CanaryResult | None
    membership: MembershipResult | None

    @property
    def is_consistent(self) -> bool:
        """Whether nothing contradicts the claim."""
        return all(part is None or part.status == "consistent" for part in (self.canaries, self.membership))


def read_study(path: Path) -> Study:
    """Read a resolved study, for example ``results/<run>/config.resolved.json``.

    Raises:
        ConfigError: The file cannot be read, or is no study.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(
            "SITE-E154",
            "the study cannot be read",
            where=str(path),
            found=getattr(problem, "strerror", None) or type(problem).__name__,
            fix="name the config.resolved.json of a run; the coordinator has it",
        ) from problem
    return study_from_json(text)


def audit_privacy(site: Site, study: Study, *, canaries: int, models: int, tell: Tell) -> Audit:
    """Attack the study's training at this site, as its plan protects it.

    Args:
        site: This hospital; its policy's caps are not asked, since nothing leaves.
        study: The study; one without a mechanism claims nothing, and only its membership is attacked.
        canaries: Planted units.
        models: Models of the hospital's patients; 0 for none.
        tell: Told of progress.

    Raises:
        FedFMError: No noise fits the study, or model or data cannot be had.
    """
    planned = agreed_plan(site, study)
    claim = _claim(study, planned)
    tell("canaries", 0, study.rounds)
    found = None
    if study.privacy.mechanism != "none":
        found = audit_canaries(
            study,
            planned,
            canaries=canaries,
            micro_batch=site.micro_batch or 1024,  # canaries are small
            tell=lambda done: tell("canaries", done, study.rounds),
        )
    return Audit(claim, found, _membership(site, study, planned, models=models, tell=tell) if models else None)


def run_audit(site: Site, study: Study, *, canaries: int, models: int) -> Audit:
    """Return ``audit_privacy``, with bars on standard error while it works; raises the same."""
    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, whole: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=whole)
            bars.update(tasks[what], completed=done)

        return audit_privacy(site, study, canaries=canaries, models=models, tell=tell)


def _claim(study: Study, planned: Plan) -> Claim:
    release = planned.training
    history = [Release(release.noise_multiplier, release.sample_rate, release.steps * study.rounds)]
    if release.noise_multiplier <= 0:
        return Claim(math.inf, planned.delta, None)
    return Claim(epsilon(history, planned.delta), planned.delta, mu_of(history))


def _membership(site: Site, study: Study, planned: Plan, *, models: int, tell: Tell) -> MembershipResult:
    prepared = prepare(site, study)
    done = 0

    def confidences(members: Members) -> Scores:
        nonlocal done
        cohort = replace(prepared.train, units=halves(prepared.train.units, members))
        train_all_rounds(site, study, planned, prepared, cohort)
        done += 1
        tell("models of patients", done, models)
        return unit_confidences(prepared.model, prepared.train, micro_batch=prepared.micro_batch)

    scores, members = attack(confidences, patients=len(prepared.train.units), models=models, coins=secure_uniform)
    rng = np.random.default_rng(secrets.randbits(128))
    return judge(scores, members, _claim(study, planned), rng=rng)


def train_all_rounds(site: Site, study: Study, planned: Plan, prepared: Prepared, cohort: Cohort) -> None:
    """Train from the study's start through all its rounds on these patients alone, as rounds would."""
    load_trainable(prepared.model, prepared.start)
    clip = study.privacy.max_grad_norm
    for _ in range(study.rounds):
        if clip is None:
            fine_tune_openly(
                prepared.model,
                cohort,
                training=study.training,
                micro_batch=prepared.micro_batch,
                uniform=secure_uniform,
            )
            continue
        units = study.training.sample_rate * site.declared_patients / 2  # half of the patients are in
        fine_tune_by_unit(
            prepared.model,
            cohort,
            training=study.training,
            mechanism=Mechanism(planned.training.noise_multiplier, clip, units),
            micro_batch=prepared.micro_batch,
            uniform=secure_uniform,
        )


def unit_confidences(model: Classifier, cohort: Cohort, *, micro_batch: int) -> Scores:
    """Return float64[P]: the mean over a unit's examples of log(p / (1 - p)), p the probability of the true class."""
    sure = np.zeros(len(cohort.states))
    with torch.no_grad():
        for chosen in by_length(cohort.states, micro_batch):
            logits = model([cohort.states[i] for i in chosen]).double().cpu()
            labels = cohort.labels[chosen][:, None]
            others = logits.scatter(1, labels, -torch.inf).logsumexp(dim=1)
            sure[chosen] = (logits.gather(1, labels)[:, 0] - others).numpy()
    sure = np.clip(np.nan_to_num(sure), -_SURE, _SURE)
    return np.array([sure[unit].mean() for unit in cohort.units])


def figures(site: Site, audit: Audit) -> dict[str, Any]:
    """Return all figures for machines; an infinite epsilon is None."""
    told: dict[str, Any] = {
        "site": site.id,
        "is_consistent": audit.is_consistent,
        "claimed": {name: _finite(value) for name, value in asdict(audit.claim).items()},
        "share": "no: made from real patients without noise" if audit.membership else "yes: no patient was involved",
    }
    if audit.canaries:
        estimate, low, high = audit.canaries.epsilon_range()
        told["canaries"] = asdict(audit.canaries) | {"status": audit.canaries.status}
        told["canaries"] |= {"epsilon": estimate, "epsilon_low": low, "epsilon_high": high}
    if audit.membership:
        told["membership"] = asdict(audit.membership) | {"status": audit.membership.status}
    return told


def _finite(value: float | None) -> float | None:
    return None if value == math.inf else value


def lines(audit: Audit) -> Iterator[str]:
    """Say what was found, the verdict first."""
    claim = audit.claim
    if math.isinf(claim.epsilon):
        yield "NO PRIVACY GUARANTEE is claimed: the study has no mechanism, so that no attack can contradict it."
    else:
        yield "Consistent with the claim." if audit.is_consistent else "THE CLAIM DOES NOT HOLD, OR WAS NOT TESTED:"
        yield f"Claimed: epsilon {claim.epsilon:.2f} at delta {claim.delta:.2g} for the training, all rounds."
    if audit.canaries:
        yield from _canary_lines(audit.canaries)
    if audit.membership:
        yield from _membership_lines(audit.membership, claim)
    yield KEEP if audit.membership else SYNTHETIC


_MEANING = {
    "consistent": "as planned",
    "violated": "MORE LEAKS THAN CLAIMED: noise, clipping or sampling is not what the plan says. Stop, and report it",
    "weak": "less is found than a rightly built step must show: the noise repeats, or units are left out. Report it",
}


def _canary_lines(found: CanaryResult) -> Iterator[str]:
    estimate, low, high = found.epsilon_range()
    yield (
        f"Canaries: {found.canaries}, {found.steps} steps, noise {found.noise_multiplier:.3f}: distance "
        f"{found.measured:.3f} ± {found.error:.3f} standard deviations, planned {found.expected:.3f}."
    )
    yield f"  Epsilon as attacked {estimate:.2f} (95 %: {low:.2f} to {high:.2f}); claimed {found.claimed:.2f}."
    yield f"  Verdict (3 standard errors): {_MEANING[found.status]}."


def _membership_lines(found: MembershipResult, claim: Claim) -> Iterator[str]:
    limit = "" if claim.mu is None else f"; no attack can pass {best_area(claim.mu):.3f} under the claim"
    yield (
        f"Membership of real patients, {found.models} models: area under ROC {found.area:.3f} "
        f"({found.area_low:.3f} to {found.area_high:.3f}), chance is 0.5{limit}."
    )
    for hit in found.hits:
        yield (
            f"  At {hit.false_alarms:.1%} false alarms: finds {hit.share:.1%} of members "
            f"({hit.low:.1%} to {hit.high:.1%}); at most {hit.allowed:.1%} allowed."
        )
    verdict = "there is no claim to keep" if math.isinf(claim.epsilon) else _MEANING[found.status]
    yield f"  Epsilon proven from below: {found.epsilon_low:.2f}. Verdict: {verdict}."
    yield "  An attack that fails proves nothing; one that succeeds beyond the claim does."
