"""From a table and a site file to examples."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from client_app.data.catalog import LOADERS, load_examples, load_splits
from client_app.data.groups import as_number, band_of
from client_app.data.template import parse
from fedfm.config.settings import REQUIRED
from fedfm.config.site import Data, Group, Policy, Site, Split
from fedfm.config.study import Column, Task
from fedfm.errors import ConfigError, DataError, FedFMError

TASK = Task(labels=["survived", "died"])
TABLE = """mrn,note,outcome,sex,age,part
7,good,0,F,63,train
8,,1,M,> 89,train
9,poor,1.0,x,39.5,test
9,worse,1,M,,test
"""


def site_of(folder: Path, content: str = TABLE, **changes: Any) -> Site:
    (folder / "cohort.csv").write_text(content)
    data = Data(
        path=str(folder / "cohort.csv"),
        loader="text",
        patient="mrn",
        label="outcome",
        label_map={"0": "survived", "1": "died"},
        text="note",
        split=Split(),
    )
    return Site(id="h", declared_patients=10, data=replace(data, **changes), policy=Policy(), state=str(folder))


def test_loaders_are_the_choices_of_the_site_file() -> None:
    loader = next(field for field in Data.__dataclass_fields__.values() if field.name == "loader")
    assert set(LOADERS) == set(loader.metadata["choices"])
    assert loader.default == REQUIRED


def test_text_rows_become_examples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    groups = {
        "sex": Group(column="sex", values={"F": "female", "M": "male"}),
        "age_band": Group(column="age", bands=[40, 65]),
    }
    with caplog.at_level(logging.WARNING):
        examples = load_examples(site_of(tmp_path, groups=groups), TASK)
    assert [(e.patient, e.text, e.label, e.row) for e in examples] == [
        ("7", "good", 0, 0),
        ("9", "poor", 1, 2),
        ("9", "worse", 1, 3),
    ]
    assert [dict(e.groups) for e in examples] == [
        {"sex": "female", "age_band": "40 to under 65"},
        {"age_band": "under 40"},
        {"sex": "male"},
    ]
    assert "left out 1 of 4 rows" in caplog.text


def test_groups_without_a_map_are_the_values_themselves(tmp_path: Path) -> None:
    examples = load_examples(site_of(tmp_path, groups={"sex": Group(column="sex")}), TASK)
    assert [e.groups["sex"] for e in examples] == ["F", "x", "M"]


def test_template_leaves_out_clauses_with_missing_values(tmp_path: Path) -> None:
    site = site_of(
        tmp_path,
        loader="template",
        template="{age}-year-old {sex}; note: {note}; ward round",
        words={"sex": {"F": "woman", "M": "man", "x": ""}},
    )
    texts = [e.text for e in load_examples(site, TASK)]
    assert texts == [
        "63-year-old woman; note: good; ward round",
        "> 89-year-old man; ward round",
        "note: poor; ward round",
        "note: worse; ward round",
    ]


def test_template_writes_numbers_shortly(tmp_path: Path) -> None:
    site = site_of(
        tmp_path,
        "mrn,outcome,age,sex\n1,0,63.0,1.0\n2,1,.50,0\n",
        loader="template",
        template="{age}; {sex}",
        words={"sex": {1: "man", "0": "woman"}},
    )
    assert [e.text for e in load_examples(site, TASK)] == ["63; man", "0.5; woman"]


@pytest.mark.parametrize("template", ["{age", "age}", "{}", "{age:.1f}", "{age!r}"])
def test_malformed_templates_are_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="SITE-E028"):
        parse(template)


def test_columns_come_in_the_order_of_the_study(tmp_path: Path) -> None:
    site = site_of(tmp_path, "patient,y,a,B\n1,0,.5,2\n2,1,,3e1\n", loader="columns", patient="patient", label="y")
    site.data.columns = {"b": "B", "a": "a"}
    task = replace(TASK, inputs="columns", columns=[Column("b", 0, 1), Column("a", 0, 1)])
    first, second = load_examples(site, task)
    assert first.columns == (2.0, 0.5)
    assert second.columns is not None
    assert second.columns[0] == 30
    assert math.isnan(second.columns[1])


@pytest.mark.parametrize("cell", ["1,5", "high", "inf", ">89"])
def test_text_among_numbers_is_counted_in_the_log_and_not_shown(
    tmp_path: Path, cell: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f'{row},{row % 2},"{cell}"\n' for row in range(12))
    site = site_of(tmp_path, "mrn,outcome,a\n" + rows, loader="columns", columns={"a": "a"})
    with pytest.raises(DataError, match="SITE-E024") as caught:
        load_examples(site, replace(TASK, inputs="columns", columns=[Column("a", 0, 1)]))
    assert cell not in str(caught.value) + caplog.text
    assert "12" not in str(caught.value)
    assert "12 of 12 rows" in caplog.text
    with pytest.raises(DataError, match="SITE-E024"):  # whatever the study asks for: the site file decides
        load_examples(
            site_of(tmp_path, "mrn,outcome,a,b\n1,0,x,1\n2,1,,2\n", loader="columns", columns={"a": "a", "b": "b"}),
            replace(TASK, inputs="columns", columns=[Column("b", 0, 1)]),
        )


TABLES = {
    "as the study hopes": "mrn,note,outcome,a\n1,x,0,1\n2,y,1,2\n",
    "another outcome": "mrn,note,outcome,a\n1,x,HIV,1\n2,y,1,2\n",
    "one class": "mrn,note,outcome,a\n1,x,0,1\n2,y,0,2\n",
    "no such column": "mrn,note,result\n1,x,0\n2,y,1\n",
    "no patient": "mrn,note,outcome,a\n,x,0,1\n",
    "empty": "",
}
NUMBERS = Task(inputs="columns", labels=["survived", "died"], columns=[Column("a", 0, 1), Column("hiv", 0, 1)])


@pytest.mark.parametrize(
    ("task", "changes", "code"),
    [
        (Task(labels=["survived", "HIV"]), {}, "SITE-E022"),
        (Task(labels=["0", "1"]), {}, "SITE-E022"),
        (NUMBERS, {"loader": "columns", "columns": {"a": "a"}}, "SITE-E023"),
        (NUMBERS, {}, "SITE-E025"),
    ],
)
def test_what_a_study_chooses_is_refused_the_same_whatever_the_table_holds(
    tmp_path: Path, task: Task, changes: dict[str, Any], code: str
) -> None:
    told = set()
    for load in (load_examples, load_splits):
        for content in TABLES.values():
            with pytest.raises(FedFMError, match=code) as caught:
                load(site_of(tmp_path, content, **changes), task)
            told.add(str(caught.value))
        site = site_of(tmp_path, **changes)
        (tmp_path / "cohort.csv").unlink()
        with pytest.raises(FedFMError, match=code) as caught:
            load(site, task)
        told.add(str(caught.value))
    assert len(told) == 1


@pytest.mark.parametrize("labels", [["survived", "died", "HIV"], ["0", "died", "survived"]])
def test_more_labels_than_the_site_has_change_nothing_it_tells(tmp_path: Path, labels: list[str]) -> None:
    """A value of the file that is also a label of the study is still read by the site's own map alone."""
    for word in ("HIV", "0x"):
        content = TABLE.replace("9,poor,1.0", f"9,poor,{word}")
        with pytest.raises(DataError) as caught:
            load_examples(site_of(tmp_path, content), Task(labels=labels))
        assert caught.value.code == "SITE-E015"
        assert str(caught.value) == str(_refusal_of_default(tmp_path, content))


def _refusal_of_default(folder: Path, content: str) -> DataError:
    with pytest.raises(DataError) as caught:
        load_examples(site_of(folder, content), TASK)
    return caught.value


def test_refusals_do_not_depend_on_how_many_rows_are_wrong(tmp_path: Path) -> None:
    def told(rows: int) -> str:
        return str(_refusal_of_default(tmp_path, "mrn,note,outcome\n1,x,0\n2,y,1\n" + "3,z,?\n" * rows))

    assert told(1) == told(40)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"label_map": {"0": "survived"}}, "SITE-E015"),
        ({"label_map": {"0": "survived", "1": "survived"}}, "SITE-E016"),
        ({"text": "nte"}, "SITE-E014"),
        ({"patient": "age"}, "SITE-E017"),
        ({"label": "age"}, "SITE-E015"),
        ({"groups": {"sex": Group(column="gender")}}, "SITE-E014"),
        ({"loader": "template", "template": "{age}; {sex}", "words": {"sex": {"F": "woman"}}}, "SITE-E015"),
    ],
)
def test_a_table_that_does_not_match_has_a_code(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(DataError) as caught:
        load_examples(site_of(tmp_path, **changes), TASK)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"label_map": {"0": "survived", "1": "dead"}}, "SITE-E022"),
        ({"label_map": {}}, "SITE-E002"),
        ({"text": ""}, "SITE-E002"),
        ({"loader": "template"}, "SITE-E002"),
        ({"loader": "template", "template": "{sex}", "words": {"sex": "woman"}}, "SITE-E003"),
    ],
)
def test_a_site_file_that_cannot_work_has_a_code(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_examples(site_of(tmp_path, **changes), TASK)
    assert caught.value.code == code


def test_a_study_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="SITE-E025"):
        load_examples(site_of(tmp_path), replace(TASK, inputs="columns"))


def test_no_note_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="SITE-E019"):
        load_examples(site_of(tmp_path, "mrn,note,outcome\n1,,0\n2,?,1\n"), TASK)


def test_split_by_a_column(tmp_path: Path) -> None:
    splits = load_splits(site_of(tmp_path, split=Split(column="part")), TASK)
    assert [e.patient for e in splits.train] == ["7"]
    assert [e.patient for e in splits.test] == ["9", "9"]
    assert splits.audit == ()


def test_a_patient_in_two_sets_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torn = TABLE.replace("9,worse,1,M,,test", "9,worse,1,M,,train")
    with pytest.raises(DataError, match=r"SITE-E018 some patients"):
        load_splits(site_of(tmp_path, torn, split=Split(column="part")), TASK)
    assert "1 of 2 patients" in caplog.text


def test_a_word_that_names_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SITE-E018 the split of some rows"):
        load_splits(site_of(tmp_path, TABLE.replace(",test", ",holdout"), split=Split(column="part")), TASK)


def test_an_identifier_that_became_a_float_is_the_same_patient(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    frame = pd.DataFrame({"mrn": [7.0, 8.5], "note": ["a", "b"], "outcome": [0, 1]})
    frame.to_parquet(tmp_path / "cohort.parquet")
    site.data.path = str(tmp_path / "cohort.parquet")
    assert [e.patient for e in load_examples(site, TASK)] == ["7", "8.5"]


@pytest.mark.parametrize(
    ("value", "number"),
    [(">89", 90), ("> 89", 90), ("90+", 90), ("<18", 17), (">=65", 65), ("41.5", 41.5), ("old", None)],
)
def test_open_ended_numbers(value: str, number: float | None) -> None:
    assert as_number(value) == number


def test_bands_include_their_lower_border() -> None:
    bands = [65.0, 40.0]
    names = [band_of(age, bands) for age in (39.9, 40, 64.9, 65)]
    assert names == ["under 40", "40 to under 65", "40 to under 65", "65 and over"]
