import albumentations as A
import numpy as np
import torch

from segaudit.data import Pipeline


def sample(height=12, width=16):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 4, (height, width), dtype=np.uint8)
    image = np.repeat(mask[..., None] * 60, 3, axis=2)  # the image shows the mask, so alignment can be read off
    return image, mask


def test_a_flip_flips_everything():
    image, mask = sample()
    cue = (mask == 2).astype(np.uint8)
    plain = Pipeline()(image, "a", mask=mask, cue=cue)
    flipped = Pipeline(transforms=[A.HorizontalFlip(p=1)])(image, "a", mask=mask, cue=cue)
    for name in ("image", "mask", "cue"):
        assert torch.equal(flipped[name], plain[name].flip(-1))
    assert plain["id"] == "a"


def test_image_and_labels_stay_aligned():
    image, mask = sample(40, 40)
    cue = (mask == 2).astype(np.uint8)
    transforms = [A.D4(p=1), A.RandomCrop(24, 20, p=1), A.Transpose(p=0.5)]
    pipeline = Pipeline(transforms=transforms, mean=(0, 0, 0), std=(1, 1, 1))
    for epoch in range(8):
        pipeline.set_epoch(epoch)
        item = pipeline(image, "a", mask=mask, cue=cue)
        assert torch.equal((item["image"][0] * 255 / 60).round().long(), item["mask"])
        assert torch.equal((item["mask"] == 2).long(), item["cue"])


def test_resizing_makes_no_new_labels():
    image, mask = sample(31, 47)
    mask[mask == 3] = 255
    item = Pipeline(image_size=(64, 80))(image, "a", mask=mask)
    assert item["image"].shape == (3, 64, 80)
    assert item["mask"].shape == (64, 80)
    assert set(item["mask"].unique().tolist()) == {0, 1, 2, 255}


def test_normalisation():
    image, mask = sample()
    item = Pipeline(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))(image, "a", mask=mask)
    expected = (torch.tensor(image).permute(2, 0, 1) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor(
        [0.1, 0.2, 0.3]
    )[:, None, None]
    torch.testing.assert_close(item["image"], expected, atol=1e-5, rtol=1e-5)
    assert item["image"].dtype == torch.float32
    assert item["mask"].dtype == torch.int64


def test_padding_is_ignored_in_the_mask_and_no_cue():
    image, mask = sample()
    pad = A.PadIfNeeded(20, 20, position="top_left", fill_mask=255, p=1)
    item = Pipeline(transforms=[pad])(image, "a", mask=mask, cue=(mask > 0).astype(np.uint8))
    assert (item["mask"][12:] == 255).all()
    assert (item["cue"][12:] == 0).all()
    assert item["cue"][:12, :16].any()


def test_seeds_repeat_and_transforms_draw_independently():
    image, mask = sample()
    flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    first, again, other = (Pipeline(transforms=flips, seed=seed) for seed in (3, 3, 4))
    names = [str(k) for k in range(40)]
    drawn = {name: first(image, name, mask=mask)["mask"] for name in names}
    truth = torch.tensor(mask).long()
    # albumentations' own seeding would flip along both axes or along none
    assert any(torch.equal(m, truth.flip(0)) for m in drawn.values())
    assert any(torch.equal(m, truth.flip(1)) for m in drawn.values())

    def same(pipeline):
        return [torch.equal(drawn[name], pipeline(image, name, mask=mask)["mask"]) for name in reversed(names)]

    assert all(same(again))  # in whatever order
    assert not all(same(other))
    again.set_epoch(1)
    assert not all(same(again))
    again.set_epoch(0)
    assert all(same(again))
