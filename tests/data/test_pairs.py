import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from segaudit.data import DataError, PairDataset, Pipeline
from segaudit.data.pairs import match_pairs, read_image, read_index_mask


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(0)
    image, mask = tmp_path / "x.jpg", tmp_path / "x.png"
    Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).save(image)
    Image.fromarray(rng.integers(0, 3, (6, 9), dtype=np.uint8)).save(mask)
    return image, mask


def dataset(pair, num_classes=3):
    return PairDataset([pair[0]], [pair[1]], num_classes, Pipeline())


def sentence(function, *arguments):
    """The error's text, which must be one sentence that names what to do."""
    with pytest.raises(DataError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert ": " in text
    return text


def test_an_item(pair):
    item = dataset(pair)[0]
    assert item["id"] == "x"
    assert item["image"].shape == (3, 6, 9)
    assert torch.equal(item["mask"], torch.tensor(np.array(Image.open(pair[1]))).long())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_mask_formats(tmp_path, suffix, mode):
    values = np.array([[0, 1], [1, 0]] if mode == "1" else [[0, 1], [2, 255]], dtype=np.uint8)
    mask = Image.fromarray(values.astype(bool) if mode == "1" else values)
    if mode == "P":
        mask.putpalette([c % 256 for c in range(768)])
    file = tmp_path / f"m{suffix}"
    mask.save(file)
    assert read_index_mask(file).tolist() == values.tolist()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".tif", ".tiff"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_image_formats(tmp_path, suffix, mode):
    file = tmp_path / f"i{suffix}"
    Image.new(mode, (5, 4), 100 if mode == "L" else (90, 100, 110)).save(file)
    image = read_image(file)
    assert image.shape == (4, 5, 3)
    assert image.mean() == pytest.approx(100, abs=2)


def test_class_out_of_range(pair):
    text = sentence(dataset(pair, num_classes=2).__getitem__, 0)
    assert str(pair[1]) in text
    assert "holds [2]" in text
    assert "0..1 and 255" in text


def test_ignore_is_in_range(pair):
    Image.fromarray(np.full((6, 9), 255, dtype=np.uint8)).save(pair[1])
    assert (dataset(pair)[0]["mask"] == 255).all()


def test_unequal_sizes(pair):
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(pair[1])
    text = sentence(dataset(pair).__getitem__, 0)
    assert f"Mask {pair[1]} is 8x6 but its image {pair[0]} is 9x6" in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F", "I;16"])
def test_a_mask_without_indices(pair, mode):
    if mode == "F":
        pair = (pair[0], pair[1].with_suffix(".tif"))
    Image.new(mode, (9, 6)).save(pair[1])
    text = sentence(dataset(pair).__getitem__, 0)
    assert f"Mask {pair[1]} holds colours or other values (its mode is {mode}) rather than class indices" in text


def test_an_image_of_sixteen_bits(pair):
    image = pair[0].with_suffix(".tif")
    Image.new("I;16", (9, 6)).save(image)
    assert "is not 8-bit" in sentence(read_image, image)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.4, 0.7])
def test_broken_files(pair, which, keep):
    content = pair[which].read_bytes()
    pair[which].write_bytes(content[: int(keep * len(content))])
    text = sentence(dataset(pair).__getitem__, 0)
    assert f"File {pair[which]} is broken or cut short" in text


def test_a_file_that_went_away(pair):
    pair[1].unlink()
    assert f"File {pair[1]} doesn't exist" in sentence(dataset(pair).__getitem__, 0)


def test_the_sentence_survives_a_worker(pair):
    data = dataset(pair, num_classes=2)
    direct = sentence(data.__getitem__, 0)
    loader = DataLoader(data, num_workers=1)
    assert sentence(lambda: list(loader)) == direct


def folders(tmp_path, images, masks):
    for kind, names in (("images", images), ("masks", masks)):
        (tmp_path / kind).mkdir()
        for name in names:
            (tmp_path / kind / name).touch()
    return tmp_path / "images", tmp_path / "masks"


def test_matching_by_stem(tmp_path):
    where = folders(tmp_path, ["b.jpg", "a.PNG", ".DS_Store"], ["a.png", "b.tif"])
    images, masks = match_pairs(*where)
    assert [f.name for f in images] == ["a.PNG", "b.jpg"]
    assert [f.name for f in masks] == ["a.png", "b.tif"]


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a.png"], "images/b.jpg has no mask: put b.png"),
        (["a.jpg"], ["a.png", "b.png"], "masks/b.png has no image: put b.jpg"),
        ([], ["a.png"], "images is empty"),
        (["a.jpg"], [], "masks is empty"),
        (["a.jpg"], ["a.jpg"], "masks/a.jpg is none of .png, .tif, .tiff"),
        (["a.jpg", "a.png"], ["a.png"], "have the same stem"),
    ],
)
def test_wrong_folders(tmp_path, images, masks, expected):
    assert expected in sentence(match_pairs, *folders(tmp_path, images, masks))


def test_a_missing_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    assert f"Folder {tmp_path / 'masks'} doesn't exist" in sentence(match_pairs, tmp_path / "images", tmp_path / "masks")
