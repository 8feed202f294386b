"""After which rounds something is measured: the coordinator asks by it, and a site plans its noise by it."""

from fedfm.config.study import Study


def evaluation_rounds(study: Study) -> list[int]:
    """Return the rounds after which test patients are counted; the last is always one."""
    return [r for r in range(1, study.rounds + 1) if r % study.evaluation.every == 0 or r == study.rounds]


def explanation_rounds(study: Study) -> list[int]:
    """Return the rounds after which audit patients' explanations are summed; the last is always one."""
    every = study.explainability.every
    return [r for r in range(1, study.rounds + 1) if (every and r % every == 0) or r == study.rounds]
