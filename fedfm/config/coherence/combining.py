"""What the parameters of combiners and optimisers may be, and what of a study a combiner does not fit."""

import math
from collections.abc import Mapping

from fedfm.config.coherence.parameters import Number, check_parameters
from fedfm.config.problems import Problems
from fedfm.config.study import Study

_FAULTY = Number(1, 1000, is_whole=True)
_ADAPTIVE = {
    "beta1": Number(0, 1, below=True),
    "beta2": Number(0, 1, below=True),
    "tau": Number(0, 1, above=True),
    "learning_rate": Number(0, 10, above=True),
}

COMBINING: Mapping[str, Mapping[str, Number]] = {
    "linear": {},
    "norm_clipping": {"factor": Number(0, 100, above=True)},
    "trimmed_mean": {"share": Number(0.001, 0.5, below=True)},
    "median": {},
    "krum": {"faulty": _FAULTY},
    "multi_krum": {"faulty": _FAULTY, "chosen": Number(1, 10_000, is_whole=True)},
    **{rule: {} for rule in ("ffa_svd", "flexlora", "fedex")},
}
"""Combiner to its parameters; all must be written. The names are those of ``server_app.combining.rules``."""

OPTIMIZING: Mapping[str, Mapping[str, Number]] = {
    "none": {},
    "momentum": {"momentum": Number(0, 1, below=True), "learning_rate": Number(0, 10, above=True)},
    "adam": _ADAPTIVE,
    "yogi": _ADAPTIVE,
}
"""Optimiser to its parameters; all must be written. The names are those of ``server_app.optimizing``."""

UNWEIGHTED = ("trimmed_mean", "median", "krum", "multi_krum")
"""Combiners that count every site once, whatever its weight."""

_CANCELLING = ("fedfv",)
"""Weighting rules that count on updates of the length that they were weighed at."""

_BY_ENTRY = ("trimmed_mean", "median")
"""Combiners that look at each entry by itself."""


def check_combining(study: Study, problems: Problems) -> None:
    """Add what is wrong with the parameters of the combiner, and what it does not fit."""
    rule, found = study.combining.rule, len(problems.errors)
    if rule not in COMBINING:  # named by check_rules
        return
    check_parameters(study.combining.params, COMBINING[rule], "combining.params", problems)
    if len(problems.errors) == found:
        _enough_sites(study, problems)
    if rule in UNWEIGHTED and study.weighting.rule != "uniform":
        what = f"{rule} counts every site once, so that the weights of weighting={study.weighting.rule} would be lost"
        fix = "set weighting=uniform, or choose combining=linear or combining=norm_clipping, which weigh the sites"
        problems.add("E030", what, path="combining.rule", found=rule, fix=fix)
    if rule == "norm_clipping" and study.weighting.rule in _CANCELLING:
        what = (
            f"weighting={study.weighting.rule} gives weights that may be many times those of a mean, for updates that "
            "nearly cancel out; once one is shortened they no longer do, and the step would be longer, not shorter"
        )
        fix = "choose combining=linear, or a weighting whose weights sum to 1, such as power or mgda"
        problems.add("E030", what, path="combining.rule", found=rule, fix=fix)
    if rule in _BY_ENTRY and study.adapter.method in _TWO_FACTORS:
        what = (
            f"{rule} takes each factor of {study.adapter.method} from other sites, and their product is none of theirs"
        )
        fix = "choose adapter=ffa_lora, which trains one factor, or combining=krum"
        problems.add("E030", what, path="combining.rule", found=rule, fix=fix)


_TWO_FACTORS = ("lora", "dora")


def check_optimizing(study: Study, problems: Problems) -> None:
    """Add what is wrong with the parameters of the coordinator's optimiser."""
    rule, params = study.optimizing.rule, study.optimizing.params
    if rule in OPTIMIZING:  # others are named by check_rules
        check_parameters(params, OPTIMIZING[rule], "optimizing.params", problems)


def _enough_sites(study: Study, problems: Problems) -> None:
    """A combiner resists what it promises to only among enough updates; fewer would pass for protected."""
    rule, params = study.combining.rule, study.combining.params
    fewest, reason = _fewest(rule, params)
    if study.min_sites < fewest:
        what = f"min_sites is too low for {rule}: {reason}"
        allowed = f"at least {fewest}"
        problems.add("E030", what, path="min_sites", found=str(study.min_sites), allowed=allowed)


def _fewest(rule: str, params: Mapping[str, float]) -> tuple[int, str]:
    """Return the fewest sites that a combiner needs, and why."""
    if rule in ("median", "norm_clipping"):
        return 3, "of two updates nobody can say which one is wrong"
    if rule == "trimmed_mean":
        reason = "of fewer sites the share at either end is less than one site, or nothing is left between the ends"
        return max(math.ceil((1 - 1e-9) / params["share"]), 3), reason
    if rule in ("krum", "multi_krum"):
        faulty, chosen = int(params["faulty"]), int(params.get("chosen", 1))
        reason = "2 faulty + 3 sites are needed, and faulty + chosen, so that all chosen can be sound"
        return max(2 * faulty + 3, faulty + chosen), reason
    return 1, ""
