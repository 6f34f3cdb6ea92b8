import pytest
import torch
from PIL import Image

from segaudit.data import DataError, FolderDataModule


def test_a_folder(pair_folder):
    pair_folder("train", {"b": (8, 10), "a": (8, 10)})
    pair_folder("val", {"c": (8, 10)})
    data = FolderDataModule(pair_folder.root, batch_size=2)
    assert data.class_names == ["sky", "road", "car"]
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch["id"]) == ["a", "b"]
    assert batch["image"].shape == (2, 3, 8, 10)
    assert batch["mask"].dtype == torch.int64
    assert [item["id"] for item in data.dataset("val")] == ["c"]


def test_groups(pair_folder):
    pair_folder("train", {"p1_a": (8, 8)})
    pair_folder("val", {"p1_a": (8, 8), "p1_b": (8, 8), "p2_a": (8, 8)})
    data = FolderDataModule(pair_folder.root, batch_size=3, group=r"images/([^_]+)_")
    assert next(iter(data.val_dataloader()))["group"] == ["p1", "p1", "p2"]
    by_split = FolderDataModule(pair_folder.root, group="^([^/]+)/")
    assert [item["group"] for item in by_split.dataset("val")] == ["val"] * 3
    assert "group" not in FolderDataModule(pair_folder.root).dataset("val")[0]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(p1)_", r"finds no group in val/images/p2_a\.png: change `group`"),
        ("p(x?)", "finds no group in val/images/p1_a"),
        ("p._", "has 0 parts in round brackets"),
        ("(p)(.)", "has 2 parts in round brackets"),
        ("(p", "is no regular expression"),
    ],
)
def test_wrong_groups(pair_folder, pattern, expected):
    pair_folder("val", {"p1_a": (8, 8), "p2_a": (8, 8)})
    with pytest.raises(DataError, match=expected):
        FolderDataModule(pair_folder.root, group=pattern).dataset("val")


def test_test_may_be_missing_until_it_is_used(pair_folder):
    pair_folder("train", {"a": (8, 8)})
    data = FolderDataModule(str(pair_folder.root))
    next(iter(data.train_dataloader()))
    with pytest.raises(DataError, match=r"test doesn't exist: create it"):
        data.test_dataloader()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty line or no line"),
        ("sky\n\nroad\n", "empty line or no line"),
        ("sky\nroad\nsky\n", "names 'sky' twice"),
        ("\n".join(map(str, range(256))), "names 256 classes"),
        (None, "classes.txt doesn't exist: create it"),
    ],
)
def test_wrong_classes(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "classes.txt").write_text(content)
    with pytest.raises(DataError, match=expected):
        FolderDataModule(tmp_path)


def test_a_missing_root(tmp_path):
    with pytest.raises(DataError, match=r"nowhere doesn't exist: set `root`"):
        FolderDataModule(tmp_path / "nowhere")


def test_class_names_from_other_editors(tmp_path):
    (tmp_path / "classes.txt").write_bytes("\ufeffsky\r\nHäuser\r\n\r\n".encode())
    assert FolderDataModule(tmp_path).class_names == ["sky", "Häuser"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_reach_the_user_as_one_sentence(pair_folder, num_workers):
    pair_folder("train", {"a": (8, 8)})
    Image.new("RGB", (8, 8)).save(pair_folder.mask("train", "a"))
    data = FolderDataModule(pair_folder.root, num_workers=num_workers)
    with pytest.raises(DataError) as caught:
        list(data.train_dataloader())
    assert str(caught.value).startswith(f"Mask {pair_folder.mask('train', 'a')} holds colours")


def test_camvid(real_data):
    data = FolderDataModule(real_data("camvid"), batch_size=2, image_size=(176, 240))
    assert data.num_classes == 11
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [367, 101, 233]
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (2, 3, 176, 240)
    assert set(batch["mask"].unique().tolist()) <= {*range(11), 255}
