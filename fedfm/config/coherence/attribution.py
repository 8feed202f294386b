"""Ways to credit words that have no meaning for columns."""

from fedfm.config.problems import Problems
from fedfm.config.study import Study

OF_TEXT = {
    "attention_rollout": "columns go through no attention",
    "occlusion": "columns have no neighbours, and a window of them no meaning; leave_one_out removes each",
}
"""Method to why it credits words and not columns."""


def check_attribution(study: Study, problems: Problems) -> None:
    """Add a method that does not fit what the task gives."""
    method = study.explainability.attribution
    if study.task.inputs == "columns" and method in OF_TEXT:
        what, fix = OF_TEXT[method], "choose explainability=integrated_gradients, or explainability=leave_one_out"
        problems.add("E030", what, path="explainability.attribution", found=method, fix=fix)
