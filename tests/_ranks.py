"""What two processes do; in a module of its own, so that a spawned process can import it."""

import os
import pickle
import socket
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from _models import Net, images
from _scores import SCORES, evidence, pick

from segaudit.auditor import Auditor
from segaudit.intervention import GridRegions, Intervention
from segaudit.target import TargetSelector

#: Which targets (of 9) and which images (of 6) each rank gets: uneven shares, and one rank with nothing at all.
SHARES = {
    "even": ((0, 4), (4, 9)),
    "uneven": ((0, 8), (8, 9)),
    "empty first": ((0, 0), (0, 9)),
    "empty last": ((0, 9), (9, 9)),
}
IMAGES = {"uneven": ((0, 4), (4, 6)), "empty": ((0, 6), (6, 6))}


def make_auditor() -> Auditor:
    return Auditor(
        ["saliency", "region_effects", "random"],
        ["deletion_auc", "off_target_leakage", "unsupported_leakage", "stability", "fill_residual"],
        selector=TargetSelector(min_area=0.01),
        intervention=Intervention(regions=GridRegions([4]), steps=3),
    )


def audit(auditor: Auditor, start: int, end: int, named: bool) -> None:
    """Batches of two."""
    x = images(6)
    for first in range(start, end, 2):
        ids = [f"im{b}" for b in range(first, min(first + 2, end))] if named else None
        auditor.update(Net(), x[first : min(first + 2, end)], sample_ids=ids)


def summary(auditor: Auditor) -> dict[str, Any]:
    return {"values": {k: float(v) for k, v in auditor.compute().items()}, "records": auditor.records()}


def work(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    results: dict[str, Any] = {}
    found = evidence(9)
    for share, parts in SHARES.items():
        start, end = parts[rank]
        for name, score in SCORES.items():
            metric = score.metric(**score.options)
            if end > start:
                metric.update(**{k: pick(found, start, end)[k] for k in score.evidence})
            results[share, name] = [float(metric.compute()), float(metric.compute())]
    for share, parts in IMAGES.items():
        for named in (True, False):
            auditor = make_auditor()
            audit(auditor, *parts[rank], named)
            results["audit", share, named] = summary(auditor)
            auditor.reset()
            results["reset", share, named] = summary(auditor)
    Path(folder, f"{rank}.pkl").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()


@cache
def two_ranks() -> list[dict[Any, Any]]:
    """What each of two gloo processes computed; started once for all tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory() as folder:
        mp.start_processes(work, (port, folder), nprocs=2, start_method="spawn")
        return [pickle.loads(Path(folder, f"{rank}.pkl").read_bytes()) for rank in range(2)]
