"""A hospital's site file: what it may say, and how each mistake is told."""

from pathlib import Path

import pytest

from fedfm.config.compose import load_site
from fedfm.errors import ConfigErrors

CONF = Path(__file__).parents[3] / "conf"
GOOD = """\
id: hospital-a
declared_patients: 400
state: state
data:
  path: cohort.csv
  loader: text
  patient: mrn
  label: outcome
  label_map: {0: survived, "1": died}
  text: note
  groups:
    sex: {column: gender}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "site.yaml").write_text(text)
    return folder / "site.yaml"


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load_site(path)
    return [str(problem) for problem in caught.value.problems]


def test_the_example_file_is_valid() -> None:
    site = load_site(CONF / "site" / "example.yaml")
    assert site.id == "hospital-a"
    assert site.data.groups["age_band"].bands == [40.0, 65.0]
    assert len((CONF / "site" / "example.yaml").read_text().splitlines()) <= 30


def test_defaults_are_strict_and_paths_count_from_the_file(tmp_path: Path) -> None:
    digest = "ab" * 32
    site = load_site(write(tmp_path, GOOD + f"weights: {{{digest}: model}}\n"))
    assert site.data.path == str(tmp_path / "cohort.csv")
    assert site.state == str(tmp_path / "state")
    assert site.weights == {digest: str(tmp_path / "model")}
    assert site.data.label_map == {"0": "survived", "1": "died"}
    assert (site.policy.units, site.policy.allow_no_privacy, site.data.split.train) == (["patient"], False, 0.7)


def test_absolute_paths_stay(tmp_path: Path) -> None:
    assert load_site(write(tmp_path, GOOD.replace("cohort.csv", "/data/c.csv"))).data.path == "/data/c.csv"


def test_environment_variables_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDFM_TABLE", "/data/c.csv")
    text = GOOD.replace("cohort.csv", "${oc.env:FEDFM_TABLE}")
    assert load_site(write(tmp_path, text)).data.path == "/data/c.csv"
    monkeypatch.delenv("FEDFM_TABLE")
    (problem,) = problems_of(write(tmp_path, text))
    assert problem.startswith("SITE-E031")
    assert "site.yaml:5 data.path" in problem
    assert "FEDFM_TABLE" in problem


@pytest.mark.parametrize(
    ("old", "new", "code", "where", "words"),
    [
        ("patient: mrn", "pateint: mrn", "E001", "site.yaml:7 data.pateint", "did you mean patient?"),
        ("  label: outcome\n", "", "E002", "site.yaml:4 data.label", "`data.label` is required"),
        ("id: hospital-a", "id:", "E002", "site.yaml:1 id", "required"),
        ("id: hospital-a", "id: no", "E005", "site.yaml:1 id", 'quotes: "no"'),
        ("id: hospital-a", "id: 012", "E005", "site.yaml:1 id", 'quotes: "012"'),
        ("id: hospital-a", "id: Hospital A", "E007", "site.yaml:1 id", "[a-z0-9]"),
        ("declared_patients: 400", "declared_patients: many", "E003", "site.yaml:2", "a whole number"),
        ("declared_patients: 400", "declared_patients: 0400", "E005", "site.yaml:2", "YAML reads 0400 as 256"),
        ("declared_patients: 400", "declared_patients: 1", "E008", "site.yaml:2", "at least 2 patients"),
        ("state: state", "\tstate: state", "E004", "site.yaml:3", "has a TAB"),
        ("state: state", "state: state\nstate: other", "E006", "site.yaml:4 state", "lines 3 and 4"),
        ("{0: survived", "{no: survived", "E005", "data.label_map.False", 'quotes: "no"'),
        ("{0: survived", "{00: survived", "E005", "data.label_map.0", 'quotes: "00"'),
        ("{0: survived", "{0: yes", "E005", "site.yaml:9 data.label_map.0", 'quotes: "yes"'),
        ("loader: text", "loader: txt", "E009", "site.yaml:6 data.loader", "did you mean text?"),
        ('  label_map: {0: survived, "1": died}\n', "", "E002", "data.label_map", "required"),
        ('label_map: {0: survived, "1": died}', "label_map: {}", "E030", "site.yaml:9 data.label_map", "is empty"),
        ("loader: text", "loader: columns", "E030", "data.columns", "loader = columns needs columns"),
        ("  text: note\n", "", "E030", "data.text", "loader = text needs text"),
        ("loader: text", "loader: template", "E030", "data.template", "needs template"),
        ("{column: gender}", "{colum: gender}", "E001", "site.yaml:12 data.groups.sex.colum", "did you mean column?"),
        ("{column: gender}", "{column: age, bands: [65, 40]}", "E030", "site.yaml:12", "must rise"),
        (
            "{column: gender}",
            "{column: a, bands: [6], values: {a: b}}",
            "E030",
            "site.yaml:12",
            "either values or bands",
        ),
        ("{column: gender}", "{column: g, values: {1: a*b}}", "E030", "site.yaml:12 data.groups.sex.values", "'a*b'"),
        ("{column: gender}", "{column: g, values: {1: 'a=b'}}", "E030", "data.groups.sex.values", "without * and ="),
        ("{column: gender}", "{column: g, values: {1: ''}}", "E030", "data.groups.sex.values", "not empty"),
        ("sex: {column: gender}", "s*x: {column: gender}", "E030", "site.yaml:12 data.groups.s*x", "rename it"),
        ("{column: gender}", "male", "E003", "site.yaml:12 data.groups.sex", "a map"),
        ("state: state", "state: s\npolicy: {units: [visit]}", "E009", "policy.units.0", "patient, record"),
        ("state: state", "state: s\npolicy: {units: []}", "E030", "policy.units", "no unit"),
        ("state: state", "state: s\nweights: {abc: model}", "E030", "weights.abc", "64 hexadecimal"),
        ("  text: note", "  text: note\n  split: {train: 0.9}", "E030", "site.yaml:11 data.split", "= 1.2"),
        ("state: state", "state: [", "E004", "site.yaml", "not readable as YAML"),
    ],
)
def test_each_mistake_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, code: str, where: str, words: str
) -> None:
    assert GOOD.count(old) == 1
    found = problems_of(write(tmp_path, GOOD.replace(old, new)))
    matching = [
        problem for problem in found if problem.startswith(f"SITE-{code}") and where.rpartition(" ")[2] in problem
    ]
    assert any(words in problem for problem in matching), found
    if where.startswith("site.yaml:"):
        assert any(where in problem for problem in matching), found


def test_templates_name_plain_columns(tmp_path: Path) -> None:
    text = GOOD.replace("loader: text", "loader: template").replace("  text: note", "  template: '{T}'")
    good = text.replace("{T}", "{age}-year-old {sex}; {resting bp} mmHg") + "  words: {sex: {1: man, 0: woman}}\n"
    assert load_site(write(tmp_path, good)).data.words == {"sex": {"1": "man", "0": "woman"}}
    for template, words in (
        ("{age.__class__}", "names no column"),
        ("{0}", "names no column"),
        ("{a[b]}", "names no column"),
        ("{", "cannot be read"),
    ):
        assert any(words in problem for problem in problems_of(write(tmp_path, text.replace("{T}", template))))
    (problem,) = problems_of(write(tmp_path, good.replace("words: {sex", "words: {sx")))
    assert "did you mean sex?" in problem
    (problem,) = problems_of(write(tmp_path, good.replace("1: man", "1: yes")))
    assert problem.startswith("SITE-E005")


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace("hospital-a", "no").replace("400", "1").replace("mrn", "[mrn]").replace("text: note", "txt: note")
    )
    codes = sorted(problem.split(" ")[0] for problem in problems_of(write(tmp_path, text)))
    assert codes == ["SITE-E001", "SITE-E003", "SITE-E005", "SITE-E008", "SITE-E030"]


def test_missing_unreadable_and_empty_files(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "site.yaml")[0].startswith("SITE-E032 no site file")
    assert "a folder" in problems_of(tmp_path)[0]
    (tmp_path / "site.yaml").write_bytes(b"id: hospit\xe4l\n")
    assert problems_of(tmp_path / "site.yaml")[0].startswith("SITE-E004 not UTF-8 at byte 10")
    assert problems_of(write(tmp_path, "id: a\0b\n"))[0].startswith("SITE-E004 not readable as YAML")
    assert {problem.split(" ")[0] for problem in problems_of(write(tmp_path, ""))} == {"SITE-E002"}
    assert "SITE-E003" in problems_of(write(tmp_path, "- a\n- b\n"))[0]
    assert problems_of(write(tmp_path, "id: a\n---\nid: b\n"))[0].startswith("SITE-E004")
