"""Scores whether the highlighted pixels drive the prediction, by deletion and insertion curves."""

import torch
from torch import Tensor

__all__ = [
    "comprehensiveness",
    "curve_error",
    "deletion_auc",
    "faithfulness_gap",
    "fill_residual",
    "insertion_auc",
    "irof",
    "monotonicity",
    "second_fill_gap",
    "sufficiency",
]

#: A target of lower confidence cannot be scored: relative changes of it would be noise.
MIN_CONFIDENCE = 0.05
#: Above this share of the confidence left in the filled image, the fill is too weak to test anything.
MAX_RESIDUAL = 0.5


def deletion_auc(deletion_curve: Tensor, deletion_fractions: Tensor) -> Tensor:
    """Compute the area under the deletion curve between its floor and 1: how long S lasts as the top pixels are filled.

    The curve is q ↦ S(x with the top q of pixels filled) / S(x). Its floor is its value at q = 1, where everything is
    filled. The area above the floor is divided by 1 - floor, so that 0 means that the confidence is gone at once and 1 that
    it never goes. Lower is better. The value leaves [0, 1] only where the confidence leaves the range of its two ends:
    partly filled images may have a lower one than the filled image (then at least -1) or a higher one than the image (then
    at most 39, as S(x) is at least 0.05). Such targets weigh much in a mean.

    Unit:
        share of S(x) above the floor

    Cost:
        K + F/T

    Definition:
        Petsiuk, Das, Saenko 2018, for a dense target. The scale between floor and 1 is our reading.

    Pitfalls:
        NaN where the fill leaves more than half of S(x). The model was not trained on filled images. The target mask is a
        strong control.

    Args:
        deletion_curve: ``(N, K)``, first the unperturbed point (1), last the filled image.
        deletion_fractions: true shares of filled pixels, ``(K,)`` or ``(N, K)``, from 0 to 1.

    Returns:
        ``(N,)``; NaN where the curve is not finite or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> deletion_auc(torch.tensor([[1.0, 0.2, 0.2]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.2500])

    """
    return _area_above_floor(deletion_curve, deletion_fractions, deletion_curve[:, -1])


def insertion_auc(insertion_curve: Tensor, insertion_fractions: Tensor) -> Tensor:
    """Compute the area under the insertion curve between its floor and 1: how soon S rises as the top pixels are shown.

    The curve is q ↦ S(filled image with the top q of pixels shown) / S(x). Its floor is its value at q = 0. Higher is
    better. The value leaves [0, 1] where :func:`deletion_auc` does, and no further.

    Unit:
        share of S(x) above the floor

    Cost:
        K + F/T

    Definition:
        Petsiuk, Das, Saenko 2018, for a dense target. The scale between floor and 1 is our reading.

    Pitfalls:
        Those of ``deletion_auc``. It rewards context, so the target mask is a weak control.

    Args:
        insertion_curve: ``(N, K)``, first the filled image, last the unperturbed point (1).
        insertion_fractions: true shares of shown pixels, ``(K,)`` or ``(N, K)``, from 0 to 1.

    Returns:
        ``(N,)``; NaN where the curve is not finite or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> insertion_auc(torch.tensor([[0.2, 1.0, 1.0]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.7500])

    """
    return _area_above_floor(insertion_curve, insertion_fractions, insertion_curve[:, 0])


def faithfulness_gap(
    deletion_curve: Tensor, deletion_fractions: Tensor, insertion_curve: Tensor, insertion_fractions: Tensor
) -> Tensor:
    """Compute the insertion AUC minus the deletion AUC.

    Higher is better, about 0 for a random map.

    Unit:
        difference of two areas

    Cost:
        2·K + F/T

    Definition:
        Our reading.

    Pitfalls:
        It hides which of the two areas moved.

    Args:
        deletion_curve: ``(N, K)``, see :func:`deletion_auc`.
        deletion_fractions: ``(K,)`` or ``(N, K)``.
        insertion_curve: ``(N, L)``, see :func:`insertion_auc`.
        insertion_fractions: ``(L,)`` or ``(N, L)``.

    Returns:
        ``(N,)`` in [-40, 40], as a rule in [-1, 1]; NaN where one of the areas is.

    """
    return insertion_auc(insertion_curve, insertion_fractions) - deletion_auc(deletion_curve, deletion_fractions)


def second_fill_gap(
    second_deletion_curve: Tensor,
    second_deletion_fractions: Tensor,
    second_insertion_curve: Tensor,
    second_insertion_fractions: Tensor,
) -> Tensor:
    """Compute the faithfulness gap under a second fill, which tells whether a map holds when something else replaces pixels.

    :func:`faithfulness_gap` on shorter curves, in which each target is filled by the fill that differs next most from its
    region. Higher is better, about 0 for a random map. A finding that the second fill does not share may be one of the fill.

    Unit:
        difference of two areas

    Cost:
        2·6 + F/T

    Definition:
        Our reading.

    Pitfalls:
        NaN where the second fill leaves more than half of S(x), which is often. So it is about fewer targets than
        ``faithfulness_gap``; compare the two on common ones. With one fill there is no second. An offline audit adds this
        score where ``faithfulness_gap`` is scored under several fills.

    Args:
        second_deletion_curve: ``(N, K)`` under the second fill, see :func:`deletion_auc`.
        second_deletion_fractions: ``(K,)`` or ``(N, K)``.
        second_insertion_curve: ``(N, L)`` under the second fill, see :func:`insertion_auc`.
        second_insertion_fractions: ``(L,)`` or ``(N, L)``.

    Returns:
        ``(N,)`` in [-40, 40], as a rule in [-1, 1]; NaN where one of the areas is.

    """
    deletion = second_deletion_curve, second_deletion_fractions
    return faithfulness_gap(*deletion, second_insertion_curve, second_insertion_fractions)


def curve_error(deletion_error: Tensor, insertion_error: Tensor, confidence: Tensor, filled_confidence: Tensor) -> Tensor:
    """Estimate the error of the two areas and take the larger one: how much the last round of points moved the area.

    In the units of :func:`deletion_auc`. Lower is better. 0 where a curve has too few points for a second round.

    Unit:
        share of S(x) above the floor

    Cost:
        2·K + F/T

    Definition:
        Our reading.

    Pitfalls:
        It is a fault of ``steps`` and not of a map. It is an estimate and no bound.

    Args:
        deletion_error: of the area under the curve, relative to S(x), ``(N,)``.
        insertion_error: the same of the insertion curve.
        confidence: S(x), ``(N,)`` in [0, 1].
        filled_confidence: confidence in the filled image, ``(N,)`` in [0, 1].

    Returns:
        ``(N,)`` in [0, 40]; NaN where S(x) is below 0.05 or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> curve_error(torch.tensor([0.01]), torch.tensor([0.02]), torch.tensor([0.8]), torch.tensor([0.4]))
        tensor([0.0400])

    """
    floor = relative_confidence(filled_confidence, confidence).double()
    error = torch.maximum(deletion_error, insertion_error).double() / (1 - floor)
    return error.where((floor <= MAX_RESIDUAL) & error.isfinite(), torch.nan).float()


def comprehensiveness(deletion_curve: Tensor, deletion_fractions: Tensor, k: float = 0.1) -> Tensor:
    """Compute how far the confidence falls, relative to it, when the top share k of pixels is filled.

    1 minus the deletion curve at k, linear between its points. Higher is better.

    Unit:
        share of S(x)

    Cost:
        K + F/T

    Definition:
        DeYoung et al. 2020, equation 1. Pixels for words, and relative to S(x), are our reading.

    Pitfalls:
        It is one point of the curve (10 % of the pixels), so it is noisier than the area. It is not scaled to what the fill
        can remove.

    Args:
        deletion_curve: ``(N, K)``, see :func:`deletion_auc`.
        deletion_fractions: ``(K,)`` or ``(N, K)``.
        k: share of the image's pixels in (0, 1]. Defaults to the middle one of the paper's five.

    Returns:
        ``(N,)``, at most 1, negative (at least -19) where the image without its top pixels has a higher confidence; NaN
        where the curve is not finite or its end exceeds 0.5 (fill too weak).

    Example:
        >>> comprehensiveness(torch.tensor([[1.0, 0.2, 0.0]]), torch.tensor([0.0, 0.2, 1.0]))
        tensor([0.4000])

    """
    return 1 - _at(k, deletion_curve, deletion_fractions, deletion_curve[:, -1])


def sufficiency(insertion_curve: Tensor, insertion_fractions: Tensor, k: float = 0.1) -> Tensor:
    """Compute how far the confidence falls, relative to it, when only the top share k of pixels is shown.

    1 minus the insertion curve at k, linear between its points. Lower is better.

    Unit:
        share of S(x)

    Cost:
        K + F/T

    Definition:
        DeYoung et al. 2020, equation 2. Pixels for words, and relative to S(x), are our reading.

    Pitfalls:
        The name is theirs: at 0 the top pixels suffice. Few pixels on a filled image rarely do, whatever the map.

    Args:
        insertion_curve: ``(N, K)``, see :func:`insertion_auc`.
        insertion_fractions: ``(K,)`` or ``(N, K)``.
        k: share of the image's pixels in (0, 1]. Defaults to the middle one of the paper's five.

    Returns:
        ``(N,)``, at most 1, negative (at least -19) where the top pixels alone have a higher confidence than the image; NaN
        where the curve is not finite or its start exceeds 0.5 (fill too weak).

    Example:
        >>> sufficiency(torch.tensor([[0.0, 0.8, 1.0]]), torch.tensor([0.0, 0.2, 1.0]))
        tensor([0.6000])

    """
    return 1 - _at(k, insertion_curve, insertion_fractions, insertion_curve[:, 0])


def monotonicity(insertion_curve: Tensor) -> Tensor:
    """Compute the share of the insertion curve's ups and downs that are ups.

    Σ max(Δ, 0) / Σ |Δ| over the steps of the curve. Higher is better: it is 1 exactly where no step falls. A fall weighs
    what it costs, so that neither rounding errors nor the number of points decide.

    Unit:
        share of the curve's way

    Cost:
        K + F/T

    Definition:
        Luss et al. 2021 and Arya et al. 2019 ask whether the curve ever falls, yes or no; the share is our reading. They
        show the least attributed pixels first, we the most.

    Pitfalls:
        A curve that can be scored rises by at least 0.5, so no map comes below 0.5. Most lie near 1.

    Args:
        insertion_curve: ``(N, K)``, see :func:`insertion_auc`.

    Returns:
        ``(N,)`` in [0.5, 1]; NaN where the curve is not finite, is flat, or starts above 0.5 (fill too weak).

    Example:
        >>> monotonicity(torch.tensor([[0.0, 0.5, 0.7, 1.0], [0.0, 0.5, 0.25, 1.0]]))
        tensor([1.0000, 0.8333])

    """
    steps = insertion_curve.double().diff(dim=1)
    value = steps.clamp_min(0).sum(dim=1) / steps.abs().sum(dim=1)
    return _where_testable(value, insertion_curve, insertion_curve[:, 0])


def irof(segment_deletion_curve: Tensor, segment_deletion_fractions: Tensor) -> Tensor:
    """Compute the area over the curve of S as segments are filled in the order of the map's mean in them.

    Iterative removal of features. It is :func:`deletion_auc` on segments, the other way round: the area between the curve
    and 1, relative to that between its floor and 1, so that 1 means that the confidence is gone at once and 0 that it never
    goes. Higher is better. It leaves [0, 1] where the confidence leaves the range of its two ends.

    Unit:
        share of S(x) above the floor

    Cost:
        K + F/T

    Definition:
        Rieger, Hansen 2020. The scale between floor and 1 is our reading.

    Pitfalls:
        It judges the order of segments alone, so it is the same for all maps of equal means over the segments.

    Args:
        segment_deletion_curve: S with the first segments filled, over S(x), ``(N, K)``: first the unperturbed point (1),
            last the filled image.
        segment_deletion_fractions: true shares of filled pixels or segments, ``(K,)`` or ``(N, K)``, from 0 to 1.

    Returns:
        ``(N,)`` in [-38, 2]; NaN where the curve is not finite or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> irof(torch.tensor([[1.0, 0.2, 0.2]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.7500])

    """
    return 1 - _area_above_floor(segment_deletion_curve, segment_deletion_fractions, segment_deletion_curve[:, -1])


def fill_residual(confidence: Tensor, filled_confidence: Tensor) -> Tensor:
    """Compute the share of the confidence that is left when everything is filled.

    Lower is better.

    Unit:
        share of S(x)

    Cost:
        F/T

    Definition:
        Our reading.

    Pitfalls:
        It is a fault of the fill and not of a map. Above 0.5 the fill is too weak to test anything, and the areas of that
        target are NaN.

    Args:
        confidence: S(x), ``(N,)`` in [0, 1].
        filled_confidence: confidence in the filled image, ``(N,)`` in [0, 1].

    Returns:
        ``(N,)`` in [0, 20]; NaN where S(x) is below 0.05.

    Example:
        >>> fill_residual(torch.tensor([0.8]), torch.tensor([0.2]))
        tensor([0.2500])

    """
    return relative_confidence(filled_confidence, confidence)


def relative_confidence(other: Tensor, confidence: Tensor) -> Tensor:
    """Divide another confidence by S(x), both ``(N,)``: in [0, 20]; NaN where S(x) is too low for a relative value."""
    return (other.double() / confidence.where(confidence >= MIN_CONFIDENCE, torch.nan)).float()


def _area_above_floor(curve: Tensor, fractions: Tensor, floor: Tensor) -> Tensor:
    area, floor = torch.trapezoid(curve.double(), _nodes(curve, fractions)), floor.double()
    return _where_testable((area - floor) / (1 - floor), curve, floor)


def _at(k: float, curve: Tensor, fractions: Tensor, floor: Tensor) -> Tensor:
    """Read the curve at the share k, linear between its points, ``(N,)``."""
    if not 0 < k <= 1:
        raise ValueError(f"k is a share of the image's pixels in (0, 1], got {k}.")
    nodes = _nodes(curve, fractions).contiguous()
    after = torch.searchsorted(nodes, nodes.new_full((len(nodes), 1), k)).clamp(1, nodes.shape[1] - 1)
    (low, high), (start, end) = ((v.gather(1, after - 1)[:, 0], v.gather(1, after)[:, 0]) for v in (nodes, curve.double()))
    return _where_testable(torch.lerp(start, end, (k - low) / (high - low)), curve, floor)


def _nodes(curve: Tensor, fractions: Tensor) -> Tensor:
    if fractions.shape[-1] != curve.shape[-1]:
        raise ValueError(f"the curve has {curve.shape[-1]} points, but {fractions.shape[-1]} fractions were given.")
    return fractions.double().expand_as(curve)


def _where_testable(value: Tensor, curve: Tensor, floor: Tensor) -> Tensor:
    return value.where((floor <= MAX_RESIDUAL) & curve.isfinite().all(dim=1), torch.nan).float()
