"""Which methods are about the model, on MiniLM after some training on the demo's notes: the randomisation gate."""

import numpy as np
import pytest
import torch

from client_app.data.catalog import load_splits
from fedfm.config.compose import compose_study, load_site
from fedfm.examples import Example
from fedfm.explain.attribution import Method
from fedfm.explain.audit import Watched, audit
from fedfm.explain.randomisation import PARTS, rank_correlation_after, sizes
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from server_app.demo_data import make_demo_data

LIMITS = {"head": 0.6, "all": 0.3}
DOCUMENTS = 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, list[Example]]:
    """Return MiniLM after three passes over one hospital's training notes, and audit notes."""
    study = compose_study(["experiment=demo", "adapter=lora", "adapter.layers=1"]).value
    (file,) = make_demo_data(tmp_path_factory.mktemp("demo"), sites=1, patients=150)
    splits = load_splits(load_site(file), study.task)
    model = build_model(study.model, study.adapter, study.task, seed=1)
    states, labels = model.encode(splits.train), torch.tensor([example.label for example in splits.train])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for rows in torch.randperm(len(states), generator=generator).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model([states[i] for i in rows]), labels[rows]).backward()
            optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        right = (model(model.encode(splits.test)).argmax(1) == torch.tensor([e.label for e in splits.test])).float()
    assert right.mean() > 0.7
    return model, list(splits.audit[:DOCUMENTS])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "passes"), [("integrated_gradients", True), ("gradient_norm", False), ("attention_rollout", False)]
)
def test_the_gate_of_randomisation(name: str, passes: bool, trained: tuple[Classifier, list[Example]]) -> None:
    """Methods that are never negative credit words of more pieces with more, under any parameters: "all" shows it."""
    model, documents = trained
    asked = {"method": Method(name), "before": sizes(model, documents, method=Method(name)), "seed": 1}
    found = {parts: rank_correlation_after(model, documents, parts=parts, **asked).mean() for parts in PARTS}
    failed = {parts for parts, limit in LIMITS.items() if found[parts] >= limit}
    assert "head" in failed if not passes else not failed


@pytest.mark.slow
def test_integrated_gradients_beat_the_random_order(trained: tuple[Classifier, list[Example]]) -> None:
    model, documents = trained
    found = audit(model, documents, method=Method(), watched=Watched(), rng=np.random.default_rng(0)).sums
    gain = found["comprehensiveness"] - found["random_order"]
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))
    assert found["sufficiency"].mean() < found["comprehensiveness"].mean()
