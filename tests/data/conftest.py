import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class PairFolder:
    """Writes a small folder dataset."""

    def __init__(self, root):
        self.root = root
        (root / "classes.txt").write_text("sky\nroad\ncar\n")

    def __call__(self, split, sizes):
        rng = np.random.default_rng(0)
        for kind in ("images", "masks"):
            (self.root / split / kind).mkdir(parents=True, exist_ok=True)
        for stem, size in sizes.items():
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(self.image(split, stem))
            Image.fromarray(rng.integers(0, 3, size, dtype=np.uint8)).save(self.mask(split, stem))

    def image(self, split, stem):
        return self.root / split / "images" / f"{stem}.png"

    def mask(self, split, stem):
        return self.root / split / "masks" / f"{stem}.png"


@pytest.fixture
def pair_folder(tmp_path):
    return PairFolder(tmp_path)


@pytest.fixture
def real_data():
    """Finds a folder of real data, or skips and says what is missing."""

    def find(name):
        base = os.environ.get("SEGAUDIT_DATA") or Path(__file__).parents[3] / "shared" / "data"
        folder = Path(base) / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is missing: real data, which the project doesn't contain (set SEGAUDIT_DATA)")
        return folder

    return find
