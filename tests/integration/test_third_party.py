"""A module that knows nothing of segaudit is audited with two added lines; the README shows this very module."""

import inspect
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).parents[2]


class MyModule(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val_loss", self.training_step(batch, _))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-2)


def test_two_lines_are_enough(own_folder):
    from segaudit.callbacks import AttributionAudit  # first line

    torch.manual_seed(0)
    images = torch.rand(8, 3, 16, 16)
    loader = DataLoader(TensorDataset(images, (images[:, 0] > 0.5).long()), batch_size=4)
    trainer = Trainer(
        max_epochs=20, accelerator="cpu", callbacks=[AttributionAudit(max_images=2, every_n_epochs=10)]
    )  # second line
    trainer.fit(MyModule(), loader, loader)
    scores = trainer.callback_metrics
    assert scores["audit/images"] == 2
    assert scores["audit/dea/deletion_auc"] < scores["audit/random/deletion_auc"]
    assert scores["audit/random/stability"].abs() < 0.2
    assert scores["val_loss"] > 0
    # Lightning's own default logger and root folder serve as well as ours.
    assert sorted(path.suffix for path in own_folder.glob("lightning_logs/version_0/audit/*")) == [
        ".csv",
        *[".parquet"] * 2,
        *[".png"] * 2,
    ]


def test_the_readme_shows_this_module():
    assert inspect.getsource(MyModule) in (ROOT / "README.md").read_text(), "README.md and this test show different modules"
