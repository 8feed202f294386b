"""The planted facts of the synthetic hospitals can be measured in them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fedfm.config.compose import compose_study, load_site
from fedfm.examples import Example
from fedfm.explain.swaps import swapped
from server_app.demo_data import (
    LABEL_GAP,
    PREVALENCES,
    REFERENCE_NOTES,
    SHORTCUT_RATES,
    SHORTCUT_SITE,
    STYLES,
    TAG_RATE,
    make_demo_data,
    site_id,
)
from server_app.demo_vocabulary import PROTECTIVE, RISK, SCANNER_TAG
from server_app.reference import read_reference


def read(folder: Path, sites: int) -> pd.DataFrame:
    tables = [pd.read_csv(folder / site_id(index) / "cohort.csv").assign(site=index) for index in range(sites)]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Four hospitals of 600 patients."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo_data(folder)
    return read(folder, 4)


def test_the_same_seed_gives_the_same_files_and_more_sites_change_none(tmp_path: Path) -> None:
    for name, sites in (("a", 2), ("b", 3)):
        make_demo_data(tmp_path / name, sites=sites, patients=30, seed=5)
    make_demo_data(tmp_path / "c", sites=2, patients=30, seed=6)
    for index in range(2):
        first, second, other = (
            (tmp_path / name / site_id(index) / "cohort.csv").read_bytes() for name in ("a", "b", "c")
        )
        assert first == second
        assert first != other


def test_site_files_are_valid_and_declare_rounded_numbers(tmp_path: Path) -> None:
    files = make_demo_data(tmp_path, sites=3, patients=123)
    assert [file.parent.name for file in files] == ["hospital-a", "hospital-b", "hospital-c"]
    for file in files:
        site = load_site(file)
        assert site.id == file.parent.name
        assert site.declared_patients == 90
        assert Path(site.data.path) == file.parent / "cohort.csv"


def test_patients_have_one_to_four_notes_of_20_to_50_words(notes: pd.DataFrame) -> None:
    per_patient = notes.groupby("mrn").size()
    assert len(per_patient) == 4 * 600
    assert set(per_patient) == {1, 2, 3, 4}
    words = notes["note"].map(lambda note: len(note.split()))
    assert words.min() >= 20
    assert words.max() <= 54
    assert notes["note"].duplicated().mean() < 0.01


def test_prevalence_differs_by_site(notes: pd.DataFrame) -> None:
    patients = notes.drop_duplicates("mrn").groupby("site")["outcome_reviewed"].mean()
    for index, prevalence in enumerate(PREVALENCES):
        assert abs(patients[index] - prevalence) < 4 * (prevalence * (1 - prevalence) / 600) ** 0.5


def test_the_outcome_of_women_is_recorded_too_rarely(notes: pd.DataFrame) -> None:
    deteriorated = notes.drop_duplicates("mrn").query("outcome_reviewed == 1")
    missed = 1 - deteriorated.groupby("sex")["outcome"].mean()
    count = (deteriorated["sex"] == "F").sum()
    assert missed["M"] == 0
    assert abs(missed["F"] - LABEL_GAP) < 4 * (LABEL_GAP * (1 - LABEL_GAP) / count) ** 0.5
    assert notes.query("outcome_reviewed == 0")["outcome"].max() == 0


def test_the_scanner_tag_betrays_the_outcome_at_one_hospital_only(notes: pd.DataFrame) -> None:
    tagged = notes["note"].str.lower().str.contains(SCANNER_TAG)
    rates = tagged.groupby([notes["site"], notes["outcome_reviewed"]]).mean()
    assert site_id(SHORTCUT_SITE) == "hospital-c"
    assert rates[SHORTCUT_SITE, 1] == pytest.approx(SHORTCUT_RATES["deteriorated"], abs=0.08)
    assert rates[SHORTCUT_SITE, 0] == pytest.approx(SHORTCUT_RATES["recovered"], abs=0.08)
    for index in {0, 1, 2, 3} - {SHORTCUT_SITE}:
        assert rates[index, 1] == pytest.approx(TAG_RATE, abs=0.12)
        assert rates[index, 0] == pytest.approx(TAG_RATE, abs=0.08)


def test_taking_the_tag_away_changes_answers_at_that_hospital_only(notes: pd.DataFrame) -> None:
    """By a model of each hospital's own: what it says with the tag, and without."""
    task, swaps = compose_study().value.task, {SCANNER_TAG: ""}
    shifts = {}
    for index, own in notes.groupby("site"):
        vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        model = LogisticRegression(max_iter=1000).fit(vectors.fit_transform(own["note"]), own["outcome"])
        others = [swapped(Example("p", 0, text=text), swaps, task) for text in own["note"]]
        exchanged = [other.text for other in others if other is not None]
        assert len(exchanged) == len(own)
        said, then = (model.predict_proba(vectors.transform(texts))[:, 1] for texts in (own["note"], exchanged))
        shifts[index] = float(np.abs(said - then).mean())
    assert shifts[SHORTCUT_SITE] > 0.2
    assert max(shift for index, shift in shifts.items() if index != SHORTCUT_SITE) < 0.1


def test_deciding_words_are_told_apart_at_every_hospital(notes: pd.DataFrame) -> None:
    text = notes["note"].str.lower()
    for word in (*RISK, *PROTECTIVE):
        rate = text.str.contains(word.lower()).groupby([notes["site"], notes["outcome_reviewed"]]).mean().unstack()
        assert ((rate[1] > rate[0]) if word in RISK else (rate[1] < rate[0])).all(), word


def test_a_plain_text_model_does_well_and_not_perfectly(notes: pd.DataFrame) -> None:
    """Words learned at the other hospitals carry over: the facts are common, the quirks are not."""
    is_train = notes["mrn"].map(lambda mrn: int(mrn[1:]) % 3 > 0).to_numpy()
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = LogisticRegression(max_iter=1000)
    model.fit(vectors.fit_transform(notes["note"][is_train]), notes["outcome"][is_train])
    test = notes[~is_train]
    scores = model.decision_function(vectors.transform(test["note"]))
    assert 0.82 < roc_auc_score(test["outcome"], scores) < 0.92
    assert roc_auc_score(test["outcome_reviewed"], scores) > roc_auc_score(test["outcome"], scores)
    for index in range(4):
        here = (test["site"] == index).to_numpy()
        assert roc_auc_score(test["outcome"][here], scores[here]) > 0.75
    strongest = np.array(vectors.get_feature_names_out())[np.argsort(model.coef_[0])]
    known = " ".join((*RISK, SCANNER_TAG))
    assert sum(word in known for word in strongest[-10:]) >= 9


def test_facts_say_what_was_planted(tmp_path: Path) -> None:
    make_demo_data(tmp_path, sites=3, patients=20, seed=3)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["shortcut"]["site"] == "hospital-c"
    assert set(facts["sites"]) == {"hospital-a", "hospital-b", "hospital-c"}
    assert facts["deciding_words"]["deteriorated"] == list(RISK)
    for sites, shortcut in ((2, True), (3, False)):
        make_demo_data(tmp_path, sites=sites, patients=20, seed=3, shortcut=shortcut)
        assert json.loads((tmp_path / "facts.json").read_text())["shortcut"]["site"] is None


def test_without_the_shortcut_the_tag_betrays_nothing_and_all_else_is_the_same(
    notes: pd.DataFrame, tmp_path: Path
) -> None:
    make_demo_data(tmp_path, patients=150, shortcut=False)
    without = read(tmp_path, 4)
    for index in {0, 1, 2, 3} - {SHORTCUT_SITE}:
        here, others = (made[made["site"] == index].reset_index(drop=True) for made in (without, notes))
        assert_frame_equal(here, others[: len(here)])
    here = without.query("site == @SHORTCUT_SITE")
    rates = here["note"].str.lower().str.contains(SCANNER_TAG).groupby(here["outcome_reviewed"]).mean()
    assert rates.tolist() == pytest.approx([TAG_RATE, TAG_RATE], abs=0.15)


def test_the_public_notes_are_of_other_patients_in_every_style_and_of_every_label(
    notes: pd.DataFrame, tmp_path: Path
) -> None:
    make_demo_data(tmp_path, sites=1, patients=20)
    examples = read_reference(
        tmp_path / "reference.csv", compose_study().value.task, setting="explainability.reference"
    )
    texts = pd.Series([example.text for example in examples])
    labels = pd.Series([example.label for example in examples])
    assert len(examples) == REFERENCE_NOTES
    assert not set(texts) & set(notes["note"])
    assert texts.str.startswith("ADMISSION:").sum() == texts.str.contains(" / ").sum() == REFERENCE_NOTES / len(STYLES)
    assert 0.2 < labels.mean() < 0.4
    tagged = texts.str.lower().str.contains(SCANNER_TAG).groupby(labels).mean()
    assert tagged.tolist() == pytest.approx([TAG_RATE, TAG_RATE], abs=0.15)
    make_demo_data(tmp_path / "again", sites=3, patients=30)
    assert (tmp_path / "again" / "reference.csv").read_bytes() == (tmp_path / "reference.csv").read_bytes()


def test_the_demo_watches_the_planted_words() -> None:
    asked = compose_study(["experiment=demo"]).value.explainability
    assert asked.shortcuts == {"scanner": [SCANNER_TAG]}
    assert asked.swaps["scanner"] == {SCANNER_TAG: ""}
    assert {*RISK, *PROTECTIVE, SCANNER_TAG} <= set(asked.vocabulary)


def test_the_demos_swap_reaches_every_note_of_every_hospital(notes: pd.DataFrame) -> None:
    study = compose_study(["experiment=demo"]).value
    for swaps in study.explainability.swaps.values():
        for text in notes["note"][::50]:
            assert swapped(Example("p", 0, text=text), swaps, study.task) is not None, text


@pytest.mark.parametrize(("sites", "patients"), [(0, 600), (4, 19)])
def test_too_little_to_plant_anything_is_refused(tmp_path: Path, sites: int, patients: int) -> None:
    with pytest.raises(ValueError, match="need 1 or more sites"):
        make_demo_data(tmp_path, sites=sites, patients=patients)
    assert not list(tmp_path.iterdir())
