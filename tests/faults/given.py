"""What the fault tests share: a quick fit, and data that go wrong when they are told to."""

import warnings
from typing import Any

import torch
from integration.tiny import Squares, loader, task, trainer
from lightning.pytorch import seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.attribution import Explainer
from segaudit.callbacks import AttributionAudit
from segaudit.intervention import GridRegions

GAP = "audit/saliency/faithfulness_gap"
LEAKAGE = "audit/saliency/off_target_leakage"
#: The images that a quick audit of six takes, in its order.
ORDER = torch.randperm(6, generator=torch.Generator().manual_seed(0))[:4].tolist()


def fit(audited: AttributionAudit, *callbacks: Any, val: Any = None, model: Any = None, **options: Any) -> Any:
    """Train to the end; what is logged is in the trainer's ``callback_metrics``."""
    loop = trainer(audited, *callbacks, **options)
    seed_everything(0, verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*|.*num_workers.*|.*sync_dist.*")
        loop.fit(model or task(), loader(8, train=True), loader(6) if val is None else val)
    assert loop.state.finished
    return loop


def logged(loop: Any, *names: str) -> list[float]:
    return [float(loop.callback_metrics[f"audit/{name}"]) for name in names]


def update(model: nn.Module, images: Tensor, masks: Tensor | None = None, **options: Any) -> Auditor:
    """One batch through an Auditor, with every kind of work that an audit does."""
    made = {
        "explainers": ["saliency", "region_effects", "seg_grad_cam"],
        "metrics": ["deletion_auc", "off_target_leakage", "stability"],
        "selector": TargetSelector(min_area=0, max_per_image=2),
        "intervention": Intervention(regions=GridRegions([4]), steps=4),
    }
    ids = options.pop("ids", None)
    auditor = Auditor(**(made | options))
    auditor.update(model, images, masks, ids)
    return auditor


def conv(channels: int = 3, classes: int = 3) -> nn.Module:
    """A network that calls bright places in the first channel 1, in the last 2, and the rest 0."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 3, padding=1))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.mul_(0.01)
            layer.bias.zero_()
        model[0].weight[0, 0, 1, 1] = model[0].weight[1, -1, 1, 1] = 1
        for index in range(1, min(3, classes)):
            model[2].weight[index, index - 1, 1, 1] = 20
            model[2].bias[index] = -10
    return model


def pictures(count: int = 2, channels: int = 3, side: int = 12) -> Tensor:
    """Images of flat squares of three pixels, of one in small images."""
    coarse = torch.rand(count, channels, *[side // 3 if side > 9 else side] * 2, generator=torch.Generator().manual_seed(2))
    return nn.functional.interpolate(coarse, size=(side, side))


class Changed(Dataset[Any]):
    """Squares of which some are changed, or raise, once training has begun."""

    def __init__(self, change: Any, indices: Any = range(6), count: int = 6) -> None:
        self.inner, self.change, self.indices = Squares(count), change, set(indices)
        self.begun = False

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        item = self.inner[index]
        return self.change(item) if self.begun and index in self.indices else item


def unreadable(item: Any) -> Any:
    raise OSError("image file is truncated (4 bytes not processed)")


def feeding(dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
    return DataLoader(dataset, **({"batch_size": 2} | options))


class Failing(Explainer):
    """Raises from its n-th call on."""

    def __init__(self, first: int, error: Exception | None = None, last: int = 10**9) -> None:
        self.first, self.last, self.error, self.calls = first, last, error or ArithmeticError("the explainer broke"), 0

    @property
    def name(self) -> str:
        return "failing"

    def attribute(self, probe: Any) -> Tensor:
        self.calls += 1
        if self.first <= self.calls <= self.last:
            raise self.error
        return torch.rand(probe.targets.region.shape)
