"""One model, one set of images: the same figures whoever asks, and however many processes share the work."""

import json
from functools import cache
from math import isnan
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from _processes import run_ranks
from integration.processes import COUNTS, FEW, FITTED, main, stand_still, validate
from integration.tiny import Squares, audit, figures, loader, small_intervention, task, trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import default_collate

from segaudit import Auditor


def close(values, regrouped=False):
    """Equal to 1e-6; a rank correlation jumps by that much where rounding, other in another batch, swaps two pixels."""
    wide = {name: 1e-5 if regrouped and name.endswith("stability") else 1e-6 for name in values}
    return {name: pytest.approx(value, abs=wide[name], nan_ok=True) for name, value in values.items()}


def test_fit_validate_and_auditor_agree(tmp_path):
    fitted = audit(max_images=5)
    keep = ModelCheckpoint(tmp_path / "kept", save_last=True)
    fit = trainer(fitted, keep, max_epochs=3, enable_checkpointing=True)
    fit.fit(task(), loader(16, train=True), loader(7))
    logged = figures(fit.callback_metrics, "audit/")
    assert logged == {name: value for name, value in figures(fitted.values).items() if not name.endswith("/targets")}
    assert logged["images"] == 5
    assert logged["targets"] > 5
    assert [name for name, value in logged.items() if isnan(value)] == []

    # `validate` explains what the model predicts, `fit` a panel from the masks.
    again = audit(max_images=5)
    loop = trainer(again)
    loop.validate(task(seed=9), loader(7), ckpt_path=keep.last_model_path, weights_only=True, verbose=False)
    validated = figures(loop.callback_metrics, "audit/")

    model = task(seed=9)
    model.load_state_dict(torch.load(keep.last_model_path, weights_only=True)["state_dict"])
    for audited, panel in ((again, None), (fitted, fitted.panel)):
        numbers = [int(name.removeprefix("square-")) for name in dict.fromkeys(row["sample_id"] for row in audited.records)]
        auditor = Auditor(intervention=small_intervention())
        for these in (numbers[:3], numbers[3:]):  # in batches of another size
            batch = default_collate([Squares(7)[number] for number in these])
            targets = None if panel is None else panel.targets(these)
            auditor.update(model, batch["image"], batch["mask"], batch["id"], targets=targets)
        found = figures(auditor.compute()) | {"lost": 0.0}
        if panel is None:
            assert {name: value for name, value in found.items() if name in validated} == close(validated, regrouped=True)
        one, other = (
            {(row["sample_id"], row["class_index"], row["explainer"]): row["off_target_leakage"] for row in rows}
            for rows in (auditor.records(), audited.records)
        )
        assert one == pytest.approx(other, abs=1e-4, nan_ok=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    model = task()
    trainer().fit(model, loader(16, train=True), loader(4))
    path = tmp_path_factory.mktemp("ranks") / "weights.pt"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def processes(weights):
    """What each of two or three gloo processes found; started once each."""
    return cache(lambda world: _run(weights, world))


@pytest.fixture(scope="module")
def ranks(processes):
    return processes(2)


def _run(weights, world):
    run_ranks(world, main, weights.parent, log=weights.with_name(f"{world}.log"))
    return [json.loads((weights.parent / f"{world}-rank{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def alone(weights):
    """What this process finds; the same for both numbers of others."""
    return cache(lambda case: (stand_still if case.startswith("fit") else validate)(weights, int(case.split()[-1])))


@pytest.mark.parametrize("case", [*map(str, COUNTS), *(f"fit {n}" for n in FITTED)])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_find_what_one_finds(processes, alone, world, case):
    one = alone(case)
    assert one["figures"]["images"] == int(case.split()[-1])
    for rank in processes(world):
        assert rank[case]["figures"] == close(one["figures"], regrouped=True)
        assert rank[case]["intervals"].keys() == one["intervals"].keys()
        for name, estimate in rank[case]["intervals"].items():
            assert estimate == pytest.approx(one["intervals"][name], abs=1e-5 if "stability" in name else 1e-6, nan_ok=True)
        rows = rank[case]["records"]
        keys = [(row["sample_id"], row["class_index"], row["explainer"]) for row in rows]
        assert len(keys) == len(set(keys))  # nothing twice, whatever the sampler pads
        expected = {(row["sample_id"], row["class_index"], row["explainer"]): row for row in one["records"]}
        assert set(keys) == set(expected)
        for key, row in zip(keys, rows, strict=True):
            numbers = {name: value for name, value in row.items() if isinstance(value, float) and name != "seconds"}
            assert numbers == close({name: expected[key][name] for name in numbers}, regrouped=True)


def test_two_processes_train_and_choose_alike(ranks, weights):
    first, second = (rank["audited"] for rank in ranks)
    assert first["figures"] == close(second["figures"])
    assert first["monitor"] == second["monitor"]
    assert first["best"] == second["best"]
    assert first["best_score"] == second["best_score"]
    assert Path(first["best"]).is_file()
    assert 0 < float(first["best_score"]) < 1
    assert first["candidates"] == second["candidates"]
    assert len(first["candidates"]) == 2
    assert first["chosen"] == second["chosen"]
    assert Path(first["chosen"]).is_file()
    assert (Path(first["chosen"]).parent / "selection.md").is_file()
    assert first["alarm"] == second["alarm"]
    for rank in ranks:  # each with its own running statistics of batch normalisation
        assert rank["audited"]["weights"] == rank["plain"]["weights"]
    # The files hold the rows of both processes, once.
    (folder,) = (weights.parent / "True").glob("version_*/audit")
    tables = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    assert len(tables) == 2
    assert len({row["sample_id"] for row in tables[-1]}) == 5
    assert len(tables[-1]) == len(first["records"])


def test_the_checkpoint_of_two_processes_gives_its_figures_in_one(ranks, tmp_path):
    audited = audit(max_images=5, explainers=FEW)
    loop = trainer(audited)
    best = ranks[0]["audited"]["best"]
    loop.validate(task(seed=9), loader(7), ckpt_path=best, weights_only=True, verbose=False)
    score = float(loop.callback_metrics["audit/saliency/faithfulness_gap"])
    # `validate` explains what the model predicts here, nearly the regions of the panel that `fit` explains.
    assert score == pytest.approx(float(ranks[0]["audited"]["best_score"]), abs=0.01)
