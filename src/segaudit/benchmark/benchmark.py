"""Runs a benchmark of explainers x networks x data sets x scores in blocks, so that it can be killed and resumed."""

import json
import os
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import yaml
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import nn
from torch.utils.data import default_collate
from torchmetrics import Metric
from tqdm.auto import tqdm

from segaudit.attribution import Explainer
from segaudit.attribution.context import isolate_rng
from segaudit.auditor import Auditor
from segaudit.benchmark.network import BenchmarkNetwork, prepare
from segaudit.benchmark.results import write_results
from segaudit.forwards.batch import unpack
from segaudit.forwards.target import TargetSelector
from segaudit.intervention import Intervention, Perturbation
from segaudit.records.blocks import Block
from segaudit.records.files import atomic_write
from segaudit.records.iou import confusion_matrix
from segaudit.records.provenance import sample_hash, weights_hash
from segaudit.report import draw_panels
from segaudit.report.picture import first_targets

#: Entries of a configuration that do not change the results.
_WHERE = ("config", "folder", "accelerator", "devices")
_PANELS = 4


class _Images(NamedTuple):
    """Holds a data set's images in the order in which they are audited."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    order: list[int]
    class_names: list[str]


class Benchmark:
    """Audits every network on every data set with every explainer and score, and compares the results.

    A block is ``batch_size`` images of a data set under one network. Blocks do not depend on each other, and each is written
    completely or not at all. A run that was killed therefore resumes where it stopped, with any number of processes. At the
    end the folder holds ``results.parquet`` (long form), ``tables.md``, ``.tex``, ``.csv``, plots, ``summary.json`` and
    ``report.html``.

    Args:
        networks: networks by name.
        data: data modules by name.
        explainers: explainers by name, or a list of explainers or of their short names. Defaults to those of
            :class:`segaudit.Auditor`.
        metrics: metrics or their short names. Defaults to those of :class:`segaudit.Auditor`.
        selector: chooses the targets of an image.
        intervention: sets how pixels are removed.
        perturbations: changes of the input for stability. Defaults to noise and brightness.
        split: split of the data sets.
        max_images: number of images of each data set, drawn once with ``seed``.
        batch_size: number of images that are explained at once.
        seed: seed of the choice of images, of training, and of random weights.
        folder: folder for everything that the benchmark writes.
        accelerator: as for Lightning's Trainer.
        devices: number of processes that share the blocks.

    Raises:
        ValueError: if there is nothing to audit, or a number is out of its range.

    """

    def __init__(
        self,
        networks: dict[str, BenchmarkNetwork],
        data: dict[str, LightningDataModule],
        explainers: dict[str, Explainer | str] | list[Explainer | str] | None = None,
        metrics: list[Metric | str] | None = None,
        selector: TargetSelector | None = None,
        intervention: Intervention | None = None,
        perturbations: list[Perturbation] | None = None,
        split: Literal["val", "test"] = "val",
        max_images: int = 40,
        batch_size: int = 8,
        seed: int = 0,
        folder: Path = Path("runs/benchmark"),
        accelerator: str = "auto",
        devices: int = 1,
    ) -> None:
        if not networks or not data:
            raise ValueError("a benchmark needs at least one network and one data set.")
        for name, value in (("max_images", max_images), ("batch_size", batch_size), ("devices", devices)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        for name in (*networks, *data):
            if not name or Path(name).name != name or name.startswith("."):
                raise ValueError(f"{name!r} names files, so it must not have slashes or begin with a dot.")
        self.networks, self.data = networks, data
        self.auditor = Auditor(
            explainers,
            metrics,
            selector,
            intervention,
            perturbations,
        )
        self.split, self.max_images, self.batch_size, self.seed = split, max_images, batch_size, seed
        self.folder, self.accelerator, self.devices = Path(folder), accelerator, devices

    def run(self, config: dict[str, Any] | None = None) -> None:
        """Audit the blocks that are missing, then write the results.

        Args:
            config: configuration of the benchmark. If the folder holds blocks of another one, ``run`` raises. Without a
                configuration, this is not checked.

        Raises:
            ValueError: if the folder holds blocks of another configuration or of other weights.

        """
        first = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
        if first:  # the other processes wait at launch, so that none reads half-written weights
            self._agree(config or {})
            self._prepare()
        fabric = self._fabric()
        fabric.launch()
        fabric.barrier()
        seen = {name: self._images(module) for name, module in self.data.items()}
        blocks = [
            (data, network, start)
            for data, images in seen.items()
            for network in self.networks
            for start in range(0, len(images.order), self.batch_size)
        ]
        # An error in a network's settings, such as a missing layer, shows at its first block. First blocks come first.
        blocks.sort(key=lambda block: block[2] > 0)
        todo = [block for block in blocks if not self.block(*block).exists()]
        mine = todo[fabric.global_rank :: fabric.world_size]
        bar = tqdm(total=len(mine), desc="Benchmark", unit="block", disable=fabric.global_rank > 0)
        if len(todo) < len(blocks) and fabric.global_rank == 0:
            print(f"{len(blocks) - len(todo)} of {len(blocks)} blocks were done before.")
        with bar:
            model, loaded = None, None
            for data, network, start in mine:
                if loaded != (data, network):
                    model, loaded = self._load(data, network, fabric.device), (data, network)
                assert model is not None
                self._audit(model, seen[data], data, network, start, fabric.device)
                bar.update()
        fabric.barrier()
        if fabric.global_rank == 0:
            found = {(d, n): [Block.read(self.block(*b)) for b in sorted(blocks) if b[:2] == (d, n)] for d, n, _ in blocks}
            names = {data: images.class_names for data, images in seen.items()}
            weights = {f"{d}/{n}": weights_hash(torch.load(self._weights(d, n), weights_only=True)) for d, n in found}
            write_results(self.folder, found, self.auditor, names, weights)
        fabric.barrier()

    def block(self, data: str, network: str, start: int) -> Path:
        """Return the path of a block; ``start`` is the number of its first image."""
        old = self.folder / "cells"  # a benchmark that an older version began
        return (old if old.is_dir() else self.folder / "blocks") / data / network / f"{start:05d}.parquet"

    def _weights(self, data: str, network: str) -> Path:
        return self.folder / "networks" / f"{data}_{network}.pt"

    def _agree(self, config: dict[str, Any]) -> None:
        """Raise if the folder holds blocks of another configuration."""
        ours = {name: value for name, value in config.items() if name not in _WHERE}
        path = self.folder / "benchmark.yaml"
        if path.exists():
            theirs = yaml.safe_load(path.read_text())
            if ours and theirs and (other := _differs(theirs, ours)):
                raise ValueError(
                    f"the folder {self.folder} holds a benchmark of another configuration ({other} differs): give another "
                    "folder, or delete that one."
                )
            return
        with atomic_write(path) as draft:
            draft.write_text(yaml.safe_dump(ours, sort_keys=False))

    def _prepare(self) -> None:
        for data, module in self.data.items():
            module.prepare_data()
            for name, entry in self.networks.items():
                seconds = prepare(entry, module, self._weights(data, name), self.seed)
                if seconds and entry.epochs:
                    print(f"{name} was trained on {data} for {entry.epochs} epochs in {seconds:.0f} s.", flush=True)

    def _fabric(self) -> Fabric:
        # A process may wait for another's last block, or for the training of the first, for hours.
        strategy: Any = DDPStrategy(timeout=timedelta(hours=24)) if self.devices > 1 else "auto"
        return Fabric(accelerator=self.accelerator, devices=self.devices, strategy=strategy)

    def _images(self, module: LightningDataModule) -> _Images:
        module.setup("validate" if self.split == "val" else "test")
        loader: Any = module.val_dataloader() if self.split == "val" else module.test_dataloader()
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(loader.dataset), generator=generator)[: self.max_images].tolist()
        collate = getattr(loader, "collate_fn", None) or default_collate
        return _Images(loader.dataset, collate, order, list(getattr(module, "class_names", [])))

    def _load(self, data: str, network: str, device: torch.device) -> nn.Module:
        model = deepcopy(self.networks[network].network)
        model.load_state_dict(torch.load(self._weights(data, network), weights_only=True))
        return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]

    def _audit(self, model: nn.Module, images: _Images, data: str, network: str, start: int, device: torch.device) -> None:
        rows = images.order[start : start + self.batch_size]
        with isolate_rng():
            sample = unpack(images.collate([images.dataset[i] for i in rows]))
            on_device = [None if part is None else part.to(device) for part in (sample.images, sample.masks, sample.cues)]
            x, masks, cues = on_device
            assert x is not None
            ids = [str(i) for i in (rows if sample.ids is None else sample.ids)]
            self.auditor.reset()
            batch = self.auditor.update(model, x, masks, ids, cues, sample.groups)
            hashes = {name: sample_hash(batch.images[i], None if masks is None else masks[i]) for i, name in enumerate(ids)}
            if start == 0 and (panels := first_targets(batch, _PANELS)):
                with atomic_write(self.folder / "panels" / f"{data}_{network}.png") as draft:
                    Image.fromarray(draw_panels(panels, images.class_names)).save(draft, format="PNG")
            confusion = confusion_matrix(batch.prediction, masks, batch.classes)
            found = Block(batch.records(), confusion, hashes, batch.likeness)
            found.write(self.block(data, network, start))


def _differs(theirs: Any, ours: Any, name: str = "") -> str:
    """Return the dotted name of the first entry in which two configurations differ; empty where none does."""
    ours = json.loads(json.dumps(ours, default=str))
    theirs = json.loads(json.dumps(theirs, default=str))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in dict.fromkeys([*theirs, *ours]):
            if found := _differs(theirs.get(key), ours.get(key), f"{name}.{key}" if name else str(key)):
                return found
        return ""
    return "" if theirs == ours else name
