import pytest
from _voc import STEMS, values, write_sbd, write_voc
from scipy.io import savemat

from segaudit.data import DataError, SBDDataModule, VOCDataModule


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path)


@pytest.fixture
def sbd(tmp_path):
    return write_sbd(tmp_path)


@pytest.mark.parametrize("kind", ["voc", "sbd"])
def test_splits(kind, request):
    root = request.getfixturevalue(kind)
    data = (VOCDataModule if kind == "voc" else SBDDataModule)(root, batch_size=2)
    data.prepare_data()
    assert data.num_classes == 21
    assert (data.class_names[0], data.class_names[20]) == ("background", "tvmonitor")
    assert sorted(next(iter(data.train_dataloader()))["id"]) == STEMS["train"]
    for loader in (data.val_dataloader(), data.test_dataloader()):
        batch = next(iter(loader))
        assert batch["id"] == STEMS["val"]
        assert batch["mask"][0].tolist() == values().tolist()


@pytest.mark.parametrize("module", [VOCDataModule, SBDDataModule])
@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_missing_dataset(module, folder, tmp_path):
    data = module(tmp_path / folder)
    data.prepare_data()
    with pytest.raises(DataError, match=r"in .*: set `download: true`") as caught:
        data.train_dataloader()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", [VOCDataModule, SBDDataModule])
def test_download_only_when_it_is_wanted_and_missing(module, tmp_path, voc, monkeypatch):
    import segaudit.data.voc as room

    asked = []
    for name in ("VOCSegmentation", "SBDataset"):
        real = getattr(room, name)

        def source(*arguments, download=False, real=real, **options):
            if download:
                asked.append(arguments[0])
                return None
            return real(*arguments, **options)

        monkeypatch.setattr(room, name, source)
    module(tmp_path / "nowhere").prepare_data()
    VOCDataModule(voc, download=True).prepare_data()
    assert asked == []
    module(tmp_path / "nowhere", download=True).prepare_data()
    assert asked == [tmp_path / "nowhere"]


def test_an_empty_image_set(voc):
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text("")
    with pytest.raises(DataError, match="lists no images"):
        VOCDataModule(voc).train_dataloader()


def test_broken_sbd_masks(sbd):
    (sbd / "cls" / "2007_1.mat").write_bytes(b"no such format")
    savemat(sbd / "cls" / "2007_2.mat", {"other": 1})
    (sbd / "cls" / "2007_3.mat").unlink()
    data = SBDDataModule(sbd)
    for split, index, expected in (("train", 0, "or broken"), ("train", 1, "or broken"), ("val", 0, "doesn't exist")):
        with pytest.raises(DataError, match=expected):
            data.dataset(split)[index]


def test_real_voc(real_data):
    data = VOCDataModule(real_data("voc3"), batch_size=3, image_size=(120, 160))
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            assert batch["image"].shape[1:] == (3, 120, 160)
            assert set(batch["mask"].unique().tolist()) <= {*range(21), 255}
    names = {
        data.class_names[c]
        for split in ("train", "val")
        for item in data.dataset(split)
        for c in item["mask"].unique().tolist()
        if c != 255
    }
    assert "person" in names
