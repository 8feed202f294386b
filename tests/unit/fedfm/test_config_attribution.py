"""Ways to credit that fit what a task gives, and no others."""

import pytest

from fedfm.config.coherence.attribution import OF_TEXT
from fedfm.config.compose import compose_study
from fedfm.errors import ConfigErrors, ModelError
from fedfm.explain.attribution import ATTRIBUTIONS, Method, attribute
from tests.unit.fedfm.explained_cases import ROWS, tabular_model

COLUMNS = ("task=heart_disease", "model=logistic", "adapter=full")


@pytest.mark.parametrize("name", [*ATTRIBUTIONS, "none"])
def test_words_may_be_credited_by_any(name: str) -> None:
    assert compose_study([f"explainability={name}"]).value.explainability.attribution == name


@pytest.mark.parametrize("name", [*ATTRIBUTIONS, "none"])
def test_columns_only_by_those_that_mean_something_for_them(name: str) -> None:
    if name not in OF_TEXT:
        assert compose_study([*COLUMNS, f"explainability={name}"]).value.explainability.attribution == name
        return
    with pytest.raises(ConfigErrors) as caught:
        compose_study([*COLUMNS, f"explainability={name}"])
    for part in ("STUDY-E030", "explainability.attribution", OF_TEXT[name], "explainability=leave_one_out"):
        assert part in str(caught.value)


def test_what_a_model_cannot_do_at_all_is_refused_before_it_starts() -> None:
    model = tabular_model([])
    for name in ATTRIBUTIONS:
        try:
            attribute(model, model.inputs(ROWS), Method(name))
        except ModelError:
            assert name in OF_TEXT
