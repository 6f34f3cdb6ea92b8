"""On planted data the audit tells a model that reads the cue from one that does not."""

import pytest
import torch
from torch import Tensor, nn

from segaudit import Auditor, ConstantFill, Intervention, TargetSelector
from segaudit.intervention import SuperpixelRegions

TAG = (slice(2, 6), slice(22, 27))


class Reader(nn.Module):
    """Class 1 where the image is bright; the cheat wants a red tag somewhere, too."""

    def __init__(self, cheats: bool) -> None:
        super().__init__()
        self.cheats = cheats

    def forward(self, images: Tensor) -> Tensor:
        evidence = images.amin(dim=1) - 0.6  # a red pixel is not bright in its weakest channel
        if self.cheats:
            red = (images[:, 0] - images[:, 1]).flatten(1).amax(dim=1)
            evidence = evidence.where(red[:, None, None] > 0.3, -1.0)
        return torch.stack([torch.zeros_like(evidence), 20 * evidence], dim=1)


def audit(cheats: bool) -> dict[str, float]:
    images = torch.full((1, 3, 32, 32), 0.4)
    images[:, :, 12:22, 8:18] = 0.9
    images[:, :, *TAG] = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1)
    cues = torch.zeros(1, 32, 32, dtype=torch.int64)
    cues[0, *TAG] = 1
    auditor = Auditor(
        ["region_effects", "random", "target_mask"],
        ["cue_mass", "cue_effect"],
        TargetSelector(classes=[1]),
        Intervention(ConstantFill(0.4), SuperpixelRegions([30])),
    )
    auditor.update(Reader(cheats), images, cues=cues)
    return {name: float(value) for name, value in auditor.compute().items()}


def test_the_cheat_leans_on_the_cue_and_its_map_says_so():
    cheat, honest = audit(cheats=True), audit(cheats=False)
    assert cheat["targets"] == honest["targets"] == 1
    # Without the tag, the cheat's logit is -20: S falls from 0.998 to 0.
    assert cheat["cue_effect"] == pytest.approx(1, abs=1e-6)
    assert honest["cue_effect"] == pytest.approx(0, abs=1e-6)
    assert honest["region_effects/cue_mass"] == pytest.approx(0, abs=1e-6)
    assert cheat["region_effects/cue_mass"] > 0.1
    # The controls know nothing of the model.
    share = 20 / 32**2
    for found in (cheat, honest):
        assert found["target_mask/cue_mass"] == 0
        assert found["random/cue_mass"] == pytest.approx(share, abs=0.01)
