"""Draws random evidence: what a metric's update takes, for targets that never existed."""

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from segaudit.attribution import InputXGradient, attribution_context
from segaudit.evidence import Ask, compute
from segaudit.forwards import Probe
from segaudit.forwards.cost import Cost
from segaudit.intervention import Brightness, GaussianNoise, GridRegions, Intervention
from segaudit.testing.networks import SIZES, SmallNet, cues_of, images, uneven_targets

NAN = float("nan")
#: Evidence that is the same for all targets of a batch.
SHARED = frozenset({"subset_size"})


def random_evidence(n: int, size: tuple[int, ...] = (5, 4), seed: int = 0, awkward: bool = True) -> dict[str, Tensor]:
    """Draw evidence for n targets by name, of all kinds that segaudit itself registers.

    Args:
        n: number of targets.
        size: of the images.
        seed: another seed, other evidence.
        awkward: whether some of nine and more targets cannot be scored, each for a reason of its own.

    Example:
        >>> random_evidence(9)["attribution"].shape
        torch.Size([9, 5, 4])

    """
    generator = torch.Generator().manual_seed(seed)
    found = _curves_and_maps(n, size, generator)
    found |= _subsets(n, size, generator)
    found |= _segments(n, generator)
    _some_hit(found)
    if awkward and n >= 9:
        _spoil(found)
    return found


def evidence_for(names: Iterable[str], size: tuple[int, ...] = (5, 4), seed: int = 0) -> dict[str, Tensor]:
    """Return random evidence by name; where a name has no generator, all is computed on a small network.

    Example:
        >>> evidence_for(["kept"])["kept"].shape
        torch.Size([12, 3])

    """
    names = list(names)
    drawn = random_evidence(12, size, seed)
    if set(names) <= drawn.keys():
        return {name: drawn[name] for name in names}
    return computed_evidence(names)


def computed_evidence(names: Collection[str]) -> dict[str, Tensor]:
    """Compute evidence of a signed map on a small network; one target of each floating evidence is made NaN."""
    model, x = SmallNet(), images(4, size=SIZES[2])
    targets = uneven_targets(model, x)
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(regions=GridRegions([3, 8])), cues=cues_of(x))
        explainer = InputXGradient()
        ask = Ask(probe, [GaussianNoise(), Brightness()]).of(explainer, explainer.explain(probe), Cost())
        found = {name: compute(name, ask).clone() for name in names}
    for values in found.values():
        if values.is_floating_point() and len(values) == len(targets):
            values[2] = NAN
    return found


def pick(found: dict[str, Tensor], start: int, end: int, shared: Collection[str] = SHARED) -> dict[str, Tensor]:
    """Take the evidence of some of the targets."""
    return {name: values if name in shared else values[start:end] for name, values in found.items()}


def _curves_and_maps(n: int, size: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    points, pairs = 6, 3
    fall = rand(n, points).sort(dim=1, descending=True).values
    rise = rand(n, points).sort(dim=1).values
    fall[:, -1] *= 0.4
    rise[:, 0] = fall[:, -1]
    fall[:, 0] = rise[:, -1] = 1
    fractions = rand(2, n, points).sort().values.double()
    fractions[..., 0], fractions[..., -1] = 0, 1
    confidence = 0.2 + 0.8 * rand(n)
    ties = (4 * torch.randn(n, *size, generator=generator)).round() / 4
    return {
        "deletion_curve": fall,
        "insertion_curve": rise,
        "deletion_fractions": fractions[0],
        "insertion_fractions": fractions[1],
        "second_deletion_curve": fall.flip(0),
        "second_insertion_curve": rise.flip(0),
        "second_deletion_fractions": fractions[1],
        "second_insertion_fractions": fractions[0],
        "confidence": confidence,
        "filled_confidence": 0.5 * confidence * rand(n),
        "confidence_without_cue": confidence * rand(n),
        "attribution": ties,
        "perturbed_attribution": ties[:, None] + 0.5 * torch.randn(n, pairs, *size, generator=generator),
        "kept": rand(n, pairs) < 0.7,
        "chance": 0.6 * rand(n),
        "region": rand(n, *size) < 0.15,
        "effect_map": rand(n, *size) - 0.4,
        "cue": rand(n, *size) < 0.3,
        "seconds": rand(n),
        "deletion_error": 0.1 * rand(n),
        "insertion_error": 0.1 * rand(n),
    }


def _subsets(n: int, size: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    points = 6
    curves = rand(2, n, points).sort(dim=2, descending=True).values
    curves[..., -1] *= 0.4
    curves[..., 0] = 1
    fractions = rand(n, points).sort().values.double()
    fractions[:, 0], fractions[:, -1] = 0, 1
    uneven = curves[1].flip(1).clone()
    uneven[:, 3] *= rand(n)  # an insertion curve that also falls, or all are monotone
    sizes = torch.tensor([4, 1, 1, 2, 2, 1, 4, 2, 4, 4])
    sums = 10 * torch.randn(n, len(sizes), generator=generator) + 3 * sizes
    return {
        "insertion_curve": uneven,
        "segment_deletion_curve": curves[0],
        "segment_deletion_fractions": fractions,
        "subset_size": sizes,
        "subset_attribution": sums.double(),
        "subset_effect": sums / 50 + 0.4 * rand(*sums.shape),
        "subset_area": (sizes * (0.1 + 0.05 * rand(*sums.shape))).double(),
        "road_deletion": 0.7 * rand(n, 4),
        "road_retention": 0.3 + 0.7 * rand(n, 4),
        "randomised_attribution": torch.randn(n, 3, *size, generator=generator).mul(3).round() / 3,
    }


def _segments(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    effects = (5 * torch.randn(n, 3, 8, generator=generator)).round() / 20  # ties
    means = (effects + 0.3 * torch.randn(n, 3, 8, generator=generator)).double()
    effects[:, 0, 5:] = NAN  # fewer segments
    effects[: n // 2, 2, 7] = NAN
    area = torch.rand(n, 3, 8, generator=generator, dtype=torch.float64).mul(20).ceil() / 160
    forwards = (30 * torch.rand(n, generator=generator)).round()
    return {"segment_effect": effects, "segment_attribution": means, "segment_area": area, "forwards": forwards}


def _some_hit(found: dict[str, Tensor]) -> None:
    """Let no region, cue and set of kept predictions be empty, and let some maps have their top inside the region."""
    ties, region = found["attribution"].flatten(1), found["region"].flatten(1)
    region[:, 0] = True
    region[1::3].scatter_(1, ties[1::3].argmax(dim=1, keepdim=True), True)
    found["cue"].flatten(1)[:, 1:2] = True  # an image may have one pixel
    found["kept"][:, 0] = True


def _spoil(found: dict[str, Tensor]) -> None:
    """Make some targets impossible to score, each for a reason of its own."""
    found["deletion_curve"][0] = NAN
    found["insertion_curve"][0, 2] = float("inf")
    found["deletion_curve"][1, -1] = found["insertion_curve"][1, 0] = 0.6  # fill too weak
    found["insertion_curve"][3] = 0.2  # flat
    found["second_deletion_curve"][0] = NAN
    found["second_insertion_curve"][1, 0] = 0.6
    found["segment_deletion_curve"][0, 1] = NAN
    found["segment_deletion_curve"][1, -1] = 0.6
    found["road_deletion"][4] = NAN
    found["confidence"][0] = found["chance"][1] = NAN
    found["seconds"][1] = found["forwards"][1] = NAN
    found["deletion_error"][2] = found["insertion_error"][3] = NAN
    found["attribution"][2] = NAN
    found["region"][3] = found["cue"][3] = found["kept"][3] = False
    found["attribution"][4] = -found["attribution"][4].abs()  # no positive mass
    found["attribution"][5] = 1.0  # constant
    found["effect_map"][6].flatten()[0] = NAN
    found["randomised_attribution"][6, 0] = 2.0  # one level is constant
    found["randomised_attribution"][7, -1] = 2.0
    found["randomised_attribution"][8].flatten()[1] = NAN
    sizes, effects, sums = found["subset_size"], found["subset_effect"], found["subset_attribution"]
    effects[2] = 0  # no effect at all
    effects[3, 1] = NAN
    sums[4] = sizes.double() / 3  # varies between the sizes alone
    sums[5, sizes == 2] = 0.1  # does not vary at one size
    sums[6] *= -1
    sums[7] = 0
    effects, means = found["segment_effect"], found["segment_attribution"]
    effects[0] = NAN
    means[1, 1, 2] = float("inf")
    means[2, 0] = 0.7  # one partition does not vary
    effects[3, 1, :4] = 0
    effects[3, 1, 4:] = NAN
    means[4] = -means[4].abs()  # no credit
    means[5, 0, 6:] = NAN  # no such segments
