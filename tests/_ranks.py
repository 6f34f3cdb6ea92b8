"""Runs the metrics and the auditor in one, two and three processes, from a module that a process can import."""

import os
import pickle
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch.distributed as dist
from _models import Net, images
from _processes import run_ranks
from _scores import SCORES, evidence, pick

from segaudit.auditor import Auditor
from segaudit.forwards.target import TargetSelector
from segaudit.intervention import GridRegions, Intervention

WORLDS = (1, 2, 3)
#: How targets and images are shared: about evenly, all but one each to the first rank, none to the first, all to it.
SHARES = ("even", "uneven", "empty first", "empty last")
#: Targets of the metrics, and images of the auditor; neither two nor three divides the latter.
TARGETS, IMAGES = 9, 7


def part(share: str, rank: int, world: int, total: int) -> tuple[int, int]:
    """From where to where a rank's share goes."""
    others = world - 1
    ends = {
        "even": [total * r // world for r in range(world + 1)],
        "uneven": [0, *range(total - others, total + 1)],
        "empty first": [0, *(total * r // max(1, others) for r in range(others)), total],
        "empty last": [0, *[total] * world],
    }[share]
    return ends[rank], ends[rank + 1]


def make_auditor() -> Auditor:
    return Auditor(
        ["saliency", "region_effects", "random"],
        ["deletion_auc", "off_target_leakage", "unsupported_leakage", "stability", "fill_residual"],
        selector=TargetSelector(min_area=0.01),
        intervention=Intervention(regions=GridRegions([4]), steps=3),
    )


def audit(auditor: Auditor, start: int, end: int, named: bool) -> None:
    """Batches of two."""
    x = images(IMAGES)
    for first in range(start, end, 2):
        ids = [f"im{b}" for b in range(first, min(first + 2, end))] if named else None
        auditor.update(Net(), x[first : min(first + 2, end)], sample_ids=ids)


def summary(auditor: Auditor) -> dict[str, Any]:
    intervals = {k: (v.mean, v.low, v.high, v.images) for k, v in auditor.intervals().items()}
    values = {k: float(v) for k, v in auditor.compute().items()}
    return {"values": values, "records": auditor.records(), "intervals": intervals}


def work(folder: str) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo")
    results: dict[str, Any] = {}
    found = evidence(TARGETS)
    for share in SHARES:
        start, end = part(share, rank, world, TARGETS)
        for name, score in SCORES.items():
            metric = score.metric(**score.options)
            if end > start:
                metric.update(**{k: pick(found, start, end)[k] for k in score.evidence})
            results[share, name] = [float(metric.compute()), float(metric.compute())]
    for share in ("uneven", "empty first"):
        for named in (True, False):
            auditor = make_auditor()
            audit(auditor, *part(share, rank, world, IMAGES), named)
            results["audit", share, named] = summary(auditor)
            auditor.reset()
            results["reset", share, named] = summary(auditor)
    Path(folder, f"{rank}.pkl").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()


@cache
def ranks(world: int) -> list[dict[Any, Any]]:
    """What each of some gloo processes computed; started once for all tests."""
    with TemporaryDirectory() as folder:
        run_ranks(world, work, folder, log=Path(folder, "printed"))
        return [pickle.loads(Path(folder, f"{rank}.pkl").read_bytes()) for rank in range(world)]
