"""What each site's update has brought, against a logistic regression written out in numpy."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml  # type: ignore[import-untyped]

from fedfm.arrays import Arrays
from fedfm.config.coherence.contribution import WEIGHTED_SUMS
from fedfm.config.compose import compose_study
from fedfm.config.study import Rule, Study
from fedfm.errors import ConfigError, ConfigErrors, EngineError
from server_app.aggregation import added
from server_app.combining.received import Combined, Received
from server_app.combining.rules import COMBINERS, linear
from server_app.contribution import Contribution, renormalised
from server_app.model_host import build
from server_app.reference import read_reference
from server_app.registry import bind
from server_app.report.event_log import EventLog, read_events
from server_app.report.judgements import ContributionMeasured
from server_app.updates import Updates

NUMERIC = ["task=heart_disease", "model=logistic", "adapter=full", "standardize=none", "task.mark_missing=false"]
SITES = ("a", "b", "c")
SETTING = "contribution.params.reference"
CONF = Path(__file__).parents[3] / "conf"


def table(folder: Path, rows: int = 40) -> Path:
    """Public patients whose age decides; every column of the task is there, and one more."""
    chance, study = np.random.default_rng(2), study_of("none")
    values = {column.name: chance.normal(size=rows).round(3) for column in study.task.columns}
    first = study.task.columns[0].name
    labels = [study.task.labels[int(value > 0)] for value in values[first]]
    path = folder / "reference.csv"
    pd.DataFrame({"row": range(rows), **values, "label": labels}).to_csv(path, index=False)
    return path


def study_of(rule: str, *overrides: str) -> Study:
    study: Study = compose_study([*NUMERIC, f"contribution={rule}", *overrides]).value
    return study


def mean_loss(parameters: Arrays, path: Path, study: Study) -> float:
    """Two-class cross-entropy in float64; the model cuts values at 3."""
    read = pd.read_csv(path)
    inputs = np.clip(read[[column.name for column in study.task.columns]].to_numpy(), -3, 3)
    logits = inputs @ parameters["head.weight"].astype(np.float64).T + parameters["head.bias"].astype(np.float64)
    labels = [study.task.labels.index(label) for label in read["label"]]
    right = logits[np.arange(len(labels)), labels]
    return float(np.mean(np.logaddexp(logits[:, 0], logits[:, 1]) - right))


def updates_of(start: Arrays, folder: Path, seed: int) -> tuple[Updates, dict[str, Arrays]]:
    chance, stored, plain = np.random.default_rng(seed), Updates(start, folder), {}
    for site in SITES:
        plain[site] = {
            name: chance.normal(scale=0.5, size=array.shape).astype(np.float32) for name, array in start.items()
        }
        stored.append(site, plain[site])
    return stored, plain


@pytest.mark.parametrize("rule", ["leave_one_out", "shapley"])
def test_values_are_those_of_models_put_together_by_hand_and_add_up_over_rounds(rule: str, tmp_path: Path) -> None:
    path = table(tmp_path)
    study = study_of(rule, f"contribution.params.reference={path}")
    _, before = build(study)
    start, weights = before, np.array([0.5, 0.3, 0.2])
    contribution = Contribution(study, EventLog(tmp_path / "events.jsonl", lambda event: None))
    expected = []
    for number in (1, 2):
        stored, plain = updates_of(before, tmp_path, seed=number)
        with stored:
            combined = linear(Received(before, {}, stored, weights))
            contribution.measure(number, before, stored, combined, {})

        def worth(members: tuple[int, ...], before: Arrays = before, plain: dict[str, Arrays] = plain) -> float:
            total = sum(weights[member] for member in members)
            moved = {
                name: array + sum(weights[member] / total * plain[SITES[member]][name] for member in members)
                for name, array in before.items()
            }
            return -mean_loss(moved if members else before, path, study)

        everyone = (0, 1, 2)
        values = np.zeros(3)
        if rule == "leave_one_out":
            values += [worth(everyone) - worth(tuple({0, 1, 2} - {player})) for player in everyone]
        else:
            for order in itertools.permutations(everyone):
                for place, player in enumerate(order):
                    gained = worth(tuple(sorted(order[: place + 1]))) - worth(tuple(sorted(order[:place])))
                    values[player] += gained / math.factorial(3)
        expected.append((values, worth(everyone) - worth(())))
        before = {name: added(array, combined.update[name]) for name, array in before.items()}
    told = [event for event in read_events(tmp_path / "events.jsonl") if isinstance(event, ContributionMeasured)]
    for event, (values, total) in zip(told, expected, strict=True):
        assert list(event.values) == list(SITES)
        assert list(event.values.values()) == pytest.approx(values.tolist(), abs=1e-6)
        assert event.total == pytest.approx(total, abs=1e-6)
        assert event.evaluations == (8 if rule == "shapley" else 5)
    improved = mean_loss(start, path, study) - mean_loss(before, path, study)
    assert sum(event.total for event in told) == pytest.approx(improved, abs=1e-5)
    if rule == "shapley":
        assert sum(sum(event.values.values()) for event in told) == pytest.approx(improved, abs=1e-5)


def test_coefficients_of_a_subset_sum_to_that_of_all() -> None:
    whole = np.array([0.5, 0.3, 0.2])
    assert renormalised(whole, frozenset({1, 2})).tolist() == pytest.approx([0.0, 0.6, 0.4])
    assert renormalised(whole, frozenset({0, 1, 2})).tolist() == whole.tolist()  # bit by bit: the model of the round
    assert renormalised(whole, frozenset()).tolist() == [0.0] * 3
    shrunk = renormalised(np.array([0.2, 0.2]), frozenset({0}))  # a clipped round takes less than a whole step
    assert shrunk.tolist() == pytest.approx([0.4, 0.0])
    assert renormalised(np.array([0.8, -0.2]), frozenset({1})).tolist() == [0.0, -0.2]


def test_a_combination_that_is_no_weighted_sum_is_refused(tmp_path: Path) -> None:
    study = study_of("shapley", f"contribution.params.reference={table(tmp_path)}")
    _, before = build(study)
    contribution = Contribution(study, EventLog(tmp_path / "events.jsonl", lambda event: None))
    stored, plain = updates_of(before, tmp_path, seed=1)
    median = Combined({name: array.astype(np.float64) for name, array in plain["a"].items()}, None)
    with stored, pytest.raises(EngineError, match="ROUND-E024"):
        contribution.measure(1, before, stored, median, {})


@pytest.mark.parametrize("rule", sorted({*WEIGHTED_SUMS, "median", "trimmed_mean"} & set(COMBINERS)))
def test_the_combiners_that_are_let_through_say_how_much_of_each_update_they_took(rule: str, tmp_path: Path) -> None:
    params = yaml.safe_load((CONF / "combining" / f"{rule}.yaml").read_text())["params"]
    start: Arrays = {"head.bias": np.zeros(2, np.float32)}
    with Updates(start, tmp_path) as stored:
        for site in "abcdefgh":
            stored.append(site, {"head.bias": np.array([1.0, float(ord(site))], np.float32)})
        combined = bind(COMBINERS, Rule(rule, params), group="combining")(
            Received(start, {}, stored, np.full(8, 1 / 8))
        )
        assert (combined.coefficients is not None) == (rule in WEIGHTED_SUMS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("contribution.params.reference=''", "needs a public reference set"),
        ("contribution.params.permutations=0", "STUDY-E008"),
        ("contribution.params.permutations=1.5", "STUDY-E003"),
        ("standardize=site", "each site standardises by itself"),
        ("optimizing.rule=adam", "also steps by earlier rounds"),
        ("combining.rule=median", "no weighted sum"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_round(override: str, message: str) -> None:
    with pytest.raises(ConfigErrors, match=message):
        compose_study([*NUMERIC, "contribution=shapley", "contribution.params.reference=/r.csv", override])


def text_table(folder: Path, rows: list[str], name: str = "reference.csv") -> Path:
    (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / name


def test_a_reference_set_of_texts(tmp_path: Path) -> None:
    task = compose_study([]).value.task
    rows = ["label,text,source", f'{task.labels[1]}," fever, cough ",public', f"{task.labels[0]},walking,public"]
    examples = read_reference(text_table(tmp_path, rows), task, setting=SETTING)
    assert [(example.label, example.text) for example in examples] == [(1, "fever, cough"), (0, "walking")]
    pd.read_csv(tmp_path / "reference.csv").to_parquet(tmp_path / "reference.parquet")
    assert read_reference(tmp_path / "reference.parquet", task, setting=SETTING) == examples


def test_empty_cells_of_columns_are_missing_values(tmp_path: Path) -> None:
    study = study_of("none")
    names = [column.name for column in study.task.columns]
    rows = [",".join([*names, "label"]), ",".join(["", *["1.5"] * (len(names) - 1), study.task.labels[0]])]
    (example,) = read_reference(text_table(tmp_path, rows), study.task, setting=SETTING)
    assert example.columns is not None
    assert math.isnan(example.columns[0])
    assert set(example.columns[1:]) == {1.5}
    pd.read_csv(tmp_path / "reference.csv").to_parquet(tmp_path / "reference.parquet")
    (again,) = read_reference(tmp_path / "reference.parquet", study.task, setting=SETTING)
    assert again.columns is not None
    assert math.isnan(again.columns[0])


@pytest.mark.parametrize(
    ("name", "rows", "code", "says"),
    [
        ("absent.csv", None, "STUDY-E082", "FileNotFoundError"),
        ("notes.txt", ["label,text"], "STUDY-E082", ".txt"),
        ("r.csv", ["label,text"], "STUDY-E082", "no rows"),
        ("r.csv", ["label,text", "recovered,a,b,c"], "STUDY-E082", "no table"),
        ("r.csv", ["labels,text", "recovered,a"], "STUDY-E083", "did you mean labels"),
        ("r.csv", ["label,note", "recovered,a"], "STUDY-E083", "'text'"),
        ("r.csv", ["label,text", "recovered,a", "cured,b"], "STUDY-E084", "row 2"),
        ("r.csv", ["label,text", "recovered,  "], "STUDY-E084", "row 1 of the reference set has no text"),
    ],
)
def test_what_is_wrong_with_a_reference_set_is_said(
    name: str, rows: list[str] | None, code: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / name if rows is None else text_table(tmp_path, rows, name)
    with pytest.raises(ConfigError) as caught:
        read_reference(path, compose_study([]).value.task, setting=SETTING)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert SETTING in str(caught.value)


def test_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    study = study_of("none")
    names = [column.name for column in study.task.columns]
    for wrong in ("1;5", "inf"):
        rows = [",".join([*names, "label"]), ",".join([wrong, *["0"] * (len(names) - 1), study.task.labels[0]])]
        with pytest.raises(ConfigError, match="row 1 of the reference set holds no number"):
            read_reference(text_table(tmp_path, rows), study.task, setting=SETTING)
