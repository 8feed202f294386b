"""The site's policy against a study's wishes. The stricter wins; beyond a cap the site refuses."""

from collections.abc import Iterator

from fedfm.config.policy import task_hash
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.plan import Plan, default_delta, leaving, plan, planned


def accept(site: Site, study: Study) -> None:
    """Return if the study stays within every cap of the site's policy.

    Raises:
        PolicyError: The first cap that the study passes, with all others in the text; nothing was spent.
    """
    if found := refusals(site, study):
        first, others = (
            found[0],
            [f"{one.code} {one.what} (got {one.found}, allowed {one.allowed})" for one in found[1:]],
        )
        raise PolicyError(
            first.code,
            first.what,
            where=first.where,
            found=first.found,
            allowed=first.allowed,
            fix="change the study, or let the data-protection officer change the policy"
            + (f"; also: {'; '.join(others)}" if others else ""),
        )


def refusals(site: Site, study: Study) -> list[PolicyError]:
    """Return every cap of the site's policy that the study passes."""
    where = f"policy of {site.id}"
    return [
        PolicyError(code, what, where=where, found=found, allowed=allowed)
        for code, what, found, allowed in _refusals(site, study)
    ]


def agreed_plan(site: Site, study: Study) -> Plan:
    """Return the noise of every release of the study at this site.

    Raises:
        PolicyError: No noise keeps the study within its budget, or less than the policy's least would be added.
    """
    made = plan(study, delta=delta(site, study))
    least = site.policy.min_noise_multiplier
    for one in planned(study, made):
        if 0 < one.added < least:
            raise PolicyError(
                "SITE-E105",
                f"less noise than the site allows, in {one.name}",
                where=f"policy of {site.id}",
                found=f"noise multiplier {one.added:.3f}",
                allowed=f"at least {least:g}",
                fix="lower the study's epsilon",
            )
    return made


def most_of_run(site: Site) -> float:
    """Return the largest epsilon that one run may spend of a patient; never above that of all studies."""
    return min(site.policy.max_epsilon_per_run or site.policy.max_epsilon, site.policy.max_epsilon)


def weights_hash(study: Study) -> str:
    """Return what ``policy.models`` calls the study's weights: their pinned hash, or ``none``; empty: not pinned."""
    source = study.model.source
    return "none" if source == "none" else "" if source == "random" else study.model.sha256


def own_delta(site: Site) -> float:
    """Return the site's default delta: a tenth of one in its declared patients, never above the policy's cap."""
    return min(default_delta(site.declared_patients), site.policy.max_delta)


def delta(site: Site, study: Study) -> float:
    """Return the delta that epsilons are stated at: the study's, else the site's own default."""
    return own_delta(site) if study.privacy.delta is None else study.privacy.delta


def _refusals(site: Site, study: Study) -> Iterator[tuple[str, str, str, str]]:
    policy, wanted = site.policy, study.privacy
    if study.rounds > policy.max_rounds:
        yield "SITE-E106", "too many rounds", f"{study.rounds}", f"at most {policy.max_rounds}"
    if study.training.local_steps > policy.max_local_steps:
        yield "SITE-E106", "too many local steps", f"{study.training.local_steps}", f"at most {policy.max_local_steps}"
    if study.min_sites < policy.min_sites:
        yield "SITE-E107", "averages over too few sites", f"min_sites={study.min_sites}", f"at least {policy.min_sites}"
    yield from _model_refusals(site, study)
    yield from _unlisted(site, study)
    if study.evaluation.release == "exact" and not policy.allow_exact_evaluation:
        yield "SITE-E103", "exact counts are a release without protection", "evaluation.release=exact", "noisy"
    if wanted.mechanism == "none":
        if not policy.allow_no_privacy:
            yield "SITE-E103", "the study has no privacy mechanism", "privacy.mechanism=none", "gaussian"
        return
    yield from _privacy_refusals(site, study)


def _model_refusals(site: Site, study: Study) -> Iterator[tuple[str, str, str, str]]:
    source = study.model.source
    if source == "random" and not site.policy.allow_random_weights:
        yield "SITE-E140", "model without pinned weights", "model.source=random", "weights with a pinned hash"
    if source == "directory" and study.model.sha256 not in site.weights:
        # The study's path is never opened here: whether it exists would already tell something.
        yield "SITE-E142", "a study names no folder of this site", "model.source=directory", "a hash under weights"
    rank, largest = study.adapter.rank, site.max_rank
    if 0 < largest < rank and study.adapter.method in ("lora", "dora") and study.combining.rule != "flexlora":
        allowed = f"at most {largest} (max_rank), or adapter=ffa_lora, or adapter=lora combining=flexlora"
        yield "SITE-E167", "a larger rank than the site trains", f"adapter.rank={rank}", allowed


def _unlisted(site: Site, study: Study) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is not on the lists of the policy, where it has one."""
    policy, task, weights = site.policy, task_hash(study.task), weights_hash(study)
    if policy.models and weights not in policy.models:
        yield "SITE-E112", "weights that the site does not allow", weights or study.model.source, "policy.models"
    if policy.tasks and task not in policy.tasks:
        yield "SITE-E113", "a task that the site does not allow", task, "policy.tasks"
    if kept := [name for name in leaving(study) if name not in policy.releases]:
        allowed = ", ".join(policy.releases) or "nothing beside the update"
        yield "SITE-E114", "asks for what does not leave this site", ", ".join(kept), allowed


def _privacy_refusals(site: Site, study: Study) -> Iterator[tuple[str, str, str, str]]:
    policy, wanted, most = site.policy, study.privacy, most_of_run(site)
    for name in ("epsilon", "evaluation_epsilon", "audit_epsilon"):
        if getattr(wanted, name) > most:
            yield "SITE-E101", f"privacy.{name} is too large", f"{getattr(wanted, name):g}", f"at most {most:g}"
    clip = wanted.max_grad_norm  # never None with a mechanism: fedfm.config checks it
    if clip is not None and clip > policy.max_grad_norm:
        yield "SITE-E111", "privacy.max_grad_norm is too large", f"{clip:g}", f"at most {policy.max_grad_norm:g}"
    largest = own_delta(site)  # a larger one would make the epsilon of all studies look smaller than the cap
    if delta(site, study) > largest:
        yield "SITE-E102", "privacy.delta is too large", f"{delta(site, study):.3g}", f"at most {largest:.3g}"
    if study.training.precision != "float32" and not policy.allow_reduced_precision:
        yield "SITE-E110", "computes with reduced precision", study.training.precision, "float32"
    if wanted.unit not in policy.units:
        yield "SITE-E108", "unit of privacy not accepted", wanted.unit, ", ".join(policy.units)
