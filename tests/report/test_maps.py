"""Each explainer's map as a picture of its own."""

import numpy as np
import torch

from segaudit.report.picture import Panel, draw_image, draw_maps, side_by_side

OUTLINE = np.array([0x37, 0xD7, 0xFF])


def panel(side: int) -> Panel:
    region = torch.zeros(side, side, dtype=torch.bool)
    region[side // 4 : side // 2, side // 4 : side // 2] = True
    low = torch.zeros(side, side)
    maps = {"nothing": low, "target": region.float(), "negative": -region.float()}
    return Panel("a", 1, torch.rand(3, side, side), low.long(), None, region, maps, {})


def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_left_as_they_are():
    assert {name: one.shape for name, one in draw_maps(panel(50)).items()} == dict.fromkeys(
        ("nothing", "target", "negative"), (150, 150, 3)
    )
    assert draw_maps(panel(200))["target"].shape == (200, 200, 3)
    assert draw_image(panel(50)).shape == (50, 50, 3)


def test_the_outline_is_the_inner_edge_of_the_target():
    drawn = draw_maps(panel(16), least=32)["nothing"]
    line = (drawn == OUTLINE).all(axis=2)
    expected = np.zeros((32, 32), bool)
    expected[8:16, 8:16] = True
    expected[9:15, 9:15] = False
    assert (line == expected).all()


def test_credit_is_bright_and_what_argues_against_is_not():
    drawn = {name: one.astype(float) for name, one in draw_maps(panel(16), least=32).items()}
    inside = (slice(10, 14), slice(10, 14))
    assert (drawn["negative"] == drawn["nothing"]).all()
    assert (drawn["target"][inside] != drawn["nothing"][inside]).any(axis=2).all()
    assert (drawn["target"][20:] == drawn["nothing"][20:]).all()


def test_pictures_of_several_heights_stand_side_by_side():
    pictures = [np.full((2, 3, 3), 9, np.uint8), np.full((4, 1, 3), 7, np.uint8)]
    drawn = side_by_side(pictures)
    assert drawn[:, :, 0].tolist() == [[9, 9, 9, 7], [9, 9, 9, 7], [0, 0, 0, 7], [0, 0, 0, 7]]
