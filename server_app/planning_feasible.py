"""Why a plan would be refused or be of no use, and what could be asked instead."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.plan import default_delta, plan, reweighting
from fedfm.privacy import Release, epsilon
from server_app.planning import Federation, Outlook, before_training, delta, noises, outlook

_SETTING = {
    "training": "privacy.epsilon",
    "statistics": "privacy.epsilon",
    "reweighting": "reweighting.params.noise_multiplier",
    "evaluation": "privacy.evaluation_epsilon",
    "last_evaluation": "privacy.evaluation_epsilon",
    "groups": "privacy.evaluation_epsilon",
    "loss": "privacy.audit_epsilon",
    "explanation": "privacy.audit_epsilon",
}
_BISECTIONS = 6  # of a bracket on a logarithmic scale: to 4 % of a factor of 10


@dataclass(frozen=True)
class Caps:
    """What the hospitals' policies are taken to allow.

    Attributes:
        max_epsilon: Most that one patient may spend.
        least_noise: Least noise multiplier of any release.
    """

    max_epsilon: float
    least_noise: float


@dataclass(frozen=True)
class Obstacle:
    """A reason why the study would not run, or would learn nothing.

    Attributes:
        code: Of the refusal, as in docs/errors.md; empty where a site would not refuse.
        what: One sentence.
        instead: What would be feasible, one proposal each.
    """

    code: str
    what: str
    instead: tuple[str, ...]


def obstacles(study: Study, patients: int, federation: Federation, caps: Caps) -> tuple[Outlook | None, list[Obstacle]]:
    """Return the outlook at sites of this size, None where no noise keeps the budget; and everything in the way."""
    if study.privacy.mechanism == "none":
        return outlook(study, patients, federation), []
    try:
        found = outlook(study, patients, federation)
    except PolicyError as problem:
        return None, [*_bad_delta(study, patients), _no_noise(study, patients, caps, problem)]
    drowned = [_drowned(study, found, federation, caps)] if found.averaged > 1 else []
    return found, [
        *_above_cap(study, found, caps),
        *_bad_delta(study, patients),
        *_little_noise(study, found, caps),
        *drowned,
    ]


def _above_cap(study: Study, found: Outlook, caps: Caps) -> Iterator[Obstacle]:
    cap = caps.max_epsilon
    for name in ("epsilon", "evaluation_epsilon", "audit_epsilon"):
        asked = getattr(study.privacy, name)
        if asked > cap:
            instead = [f"privacy.{name}={cap:g}"]
            if name == "epsilon":
                instead += _shorter(study, found, cap)
            what = f"privacy.{name} of {asked:g} is above the {cap:g} that a hospital allows in all"
            yield Obstacle("SITE-E101", what, tuple(instead))


def _shorter(study: Study, found: Outlook, cap: float) -> list[str]:
    """Return the most rounds, or steps in a round, that stay within ``cap`` with the noise of the plan."""
    made = found.plan
    before = before_training(study, made)

    def fits(steps: int) -> bool:
        noise, rate = made.training.noise_multiplier, made.training.sample_rate
        return epsilon([*before, Release(noise, rate, steps)], made.delta) <= cap

    rounds = _most(study.rounds, lambda count: fits(count * made.training.steps))
    steps = _most(made.training.steps, lambda count: fits(count * study.rounds))
    return [
        f"privacy.epsilon={cap:g} {setting}={count}, with about the noise of this plan"
        for setting, count in (("rounds", rounds), ("training.local_steps", steps))
        if count
    ]


def _most(too_many: int, fits: Callable[[int], bool]) -> int:
    """Return the largest count below ``too_many`` that fits; 0 where none does."""
    enough = 0
    while too_many - enough > 1:
        middle = (too_many + enough) // 2
        enough, too_many = (middle, too_many) if fits(middle) else (enough, middle)
    return enough


def _bad_delta(study: Study, patients: int) -> Iterator[Obstacle]:
    asked, largest = delta(study, patients), default_delta(patients)
    if asked > largest:
        yield Obstacle(
            "SITE-E102",
            f"delta of {asked:.3g} is above a tenth of one in {patients} patients: it would make epsilon look small",
            (
                f"privacy.delta={_down(largest):g}, or leave it empty",
                f"sites of at most {math.floor(1 / (10 * asked))} patients",
            ),
        )


def _little_noise(study: Study, found: Outlook, caps: Caps) -> Iterator[Obstacle]:
    for name, noise in found.noises.items():
        if not 0 < noise < caps.least_noise:
            continue
        setting, at = _SETTING[name], found.plan.delta

        def loud(changed: Study, *, name: str = name, at: float = at) -> bool:
            return noises(changed, plan(changed, delta=at))[name] >= caps.least_noise

        if name == "reweighting":
            instead = f"{setting}={caps.least_noise:g}"
        else:
            instead = f"{setting}={_largest(study, setting, loud):g}"
        what = f"noise of {noise:.2f} in {name}: less than the {caps.least_noise:g} that a hospital asks for"
        yield Obstacle("SITE-E105", what, (instead,))


def _no_noise(study: Study, patients: int, caps: Caps, problem: PolicyError) -> Obstacle:
    at = delta(study, patients)
    for setting in ("privacy.epsilon", "privacy.evaluation_epsilon", "privacy.audit_epsilon"):
        enough = _asked(study, setting)
        if setting == "privacy.epsilon" and (counts := reweighting(study)):
            enough = max(enough, epsilon([counts], at))
        while enough < caps.max_epsilon:
            enough = min(_up(1.1 * enough), caps.max_epsilon)
            if _plans(_with(study, setting, enough), at):
                return Obstacle(problem.code, problem.what, (f"{setting}={enough:g} or more",))
    instead = "fewer releases about training patients: reweighting=none, or standardize=reference"
    return Obstacle(problem.code, problem.what, (instead,))


def _drowned(study: Study, found: Outlook, federation: Federation, caps: Caps) -> Obstacle:
    ratio = found.averaged

    def heard(changed: Study) -> bool:
        return outlook(changed, found.patients, federation).averaged <= 1

    instead = [
        f"{math.ceil(federation.sites * ratio**2)} sites of this size",
        f"{_cohort(study, found, federation)} patients at each of {federation.sites} sites",
        f"at most {_down(federation.parameters / ratio**2):g} trained parameters; adapter=head trains fewest",
    ]
    if heard(_with(study, "privacy.epsilon", caps.max_epsilon)):
        enough = _smallest(study, "privacy.epsilon", caps.max_epsilon, heard)
        instead.insert(0, f"privacy.epsilon={enough:g}")
    what = f"the noise is {ratio:.1f} times as long as the longest update that patients could make"
    return Obstacle("", what, tuple(instead))


def _cohort(study: Study, found: Outlook, federation: Federation) -> int:
    """Return about the fewest patients of a site, to two digits, at which the average is louder than its noise."""
    enough = found.patients
    ratio = found.averaged
    while ratio > 1:
        enough = int(_up(max(enough * ratio, enough * 1.02)))
        ratio = outlook(study, enough, federation).averaged
    return enough


def _plans(study: Study, at: float) -> bool:
    try:
        plan(study, delta=at)
    except PolicyError:
        return False
    return True


def _asked(study: Study, setting: str) -> float:
    return float(getattr(study.privacy, setting.removeprefix("privacy.")))


def _with(study: Study, setting: str, value: float) -> Study:
    privacy = replace(study.privacy)
    setattr(privacy, setting.removeprefix("privacy."), value)
    return replace(study, privacy=privacy)


def _smallest(study: Study, setting: str, enough: float, holds: Callable[[Study], bool]) -> float:
    """Return about the smallest value of ``setting``, above the asked, that ``holds``; ``enough`` does."""
    too_little = _asked(study, setting)
    for _ in range(_BISECTIONS):
        middle = math.sqrt(too_little * enough)
        too_little, enough = (too_little, middle) if holds(_with(study, setting, middle)) else (middle, enough)
    rounded = _up(enough)
    return rounded if holds(_with(study, setting, rounded)) else enough


def _largest(study: Study, setting: str, holds: Callable[[Study], bool]) -> float:
    """Return about the largest value of ``setting``, below the asked, that ``holds``; small enough ones do."""
    too_much = _asked(study, setting)
    enough = too_much / 2
    while not holds(_with(study, setting, enough)):
        too_much, enough = enough, enough / 2
    for _ in range(_BISECTIONS):
        middle = math.sqrt(too_much * enough)
        too_much, enough = (too_much, middle) if holds(_with(study, setting, middle)) else (middle, enough)
    return _down(enough)


def _up(value: float) -> float:
    """Return ``value`` rounded up to two digits."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / digit - 1e-9) * digit:.2g}")


def _down(value: float) -> float:
    """Return ``value`` rounded down to two digits."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / digit + 1e-9) * digit:.2g}")
