"""Do the highlighted pixels drive the prediction? Areas under deletion and insertion curves, and single points of them."""

import torch
from torch import Tensor

#: A target whose score is lower than this cannot be scored: relative changes of it would be noise.
MIN_CONFIDENCE = 0.05
#: Above this share of the score left in the filled image, the fill is too weak to test anything.
MAX_RESIDUAL = 0.5


def deletion_auc(deletion_curve: Tensor, deletion_fractions: Tensor) -> Tensor:
    """Area under the deletion curve between its floor and 1; lower is better.

    The curve is q ↦ S(x with the top q of pixels filled) / S(x) (Petsiuk, Das, Saenko 2018, for a dense target). Its
    floor is its value at q = 1, where everything is filled; the area above it is divided by 1 - floor, so that 0 means
    gone at once and 1 never (our reading). It leaves [0, 1] only where the score leaves the range of its two ends: partly
    filled images may score lower than the filled one (at least -1) or higher than the image (at most 39, as S(x) is at
    least 0.05). Such targets weigh much in a mean.

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
    """Area under the insertion curve between its floor and 1; higher is better.

    The curve is q ↦ S(filled image with the top q of pixels shown) / S(x); its floor is its value at q = 0. It leaves [0, 1]
    where :func:`deletion_auc` does, and no further.

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
    """Insertion AUC minus deletion AUC, ``(N,)`` in [-40, 40], as a rule in [-1, 1]; higher is better, about 0 if random.

    Args:
        deletion_curve: ``(N, K)``, see :func:`deletion_auc`.
        deletion_fractions: ``(K,)`` or ``(N, K)``.
        insertion_curve: ``(N, L)``, see :func:`insertion_auc`.
        insertion_fractions: ``(L,)`` or ``(N, L)``.

    """
    return insertion_auc(insertion_curve, insertion_fractions) - deletion_auc(deletion_curve, deletion_fractions)


def curve_error(deletion_error: Tensor, insertion_error: Tensor, confidence: Tensor, filled_confidence: Tensor) -> Tensor:
    """Estimated error of the two areas, the larger one, ``(N,)`` in [0, 40]; lower is better.

    How much the last round of points moved the area, in the units of :func:`deletion_auc`: a fault of the number of
    points (``steps``), not of a map. 0 where a curve has too few points for a second round.

    Args:
        deletion_error: of the area under the curve, relative to S(x), ``(N,)``.
        insertion_error: the same of the insertion curve.
        confidence: S(x), ``(N,)`` in [0, 1].
        filled_confidence: confidence in the filled image, ``(N,)`` in [0, 1].

    Returns:
        ``(N,)``; NaN where S(x) is below 0.05 or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> curve_error(torch.tensor([0.01]), torch.tensor([0.02]), torch.tensor([0.8]), torch.tensor([0.4]))
        tensor([0.0400])

    """
    floor = relative_confidence(filled_confidence, confidence).double()
    error = torch.maximum(deletion_error, insertion_error).double() / (1 - floor)
    return error.where((floor <= MAX_RESIDUAL) & error.isfinite(), torch.nan).float()


def comprehensiveness(deletion_curve: Tensor, deletion_fractions: Tensor, k: float = 0.1) -> Tensor:
    """How far the score falls, relative to it, when the top share k of pixels is filled; higher is better.

    1 minus the deletion curve at k, linear between its points (DeYoung et al. 2020, equation 1, relative to S(x) and with
    pixels for words). Unlike the area it is not scaled to what the fill can remove.

    Args:
        deletion_curve: ``(N, K)``, see :func:`deletion_auc`.
        deletion_fractions: ``(K,)`` or ``(N, K)``.
        k: share of the image's pixels in (0, 1]; unless told the middle one of the paper's five.

    Returns:
        ``(N,)``, at most 1, negative (at least -19) where the image without its top pixels scores higher; NaN where the
        curve is not finite or its end exceeds 0.5 (fill too weak).

    Example:
        >>> comprehensiveness(torch.tensor([[1.0, 0.2, 0.0]]), torch.tensor([0.0, 0.2, 1.0]))
        tensor([0.4000])

    """
    return 1 - _at(k, deletion_curve, deletion_fractions, deletion_curve[:, -1])


def sufficiency(insertion_curve: Tensor, insertion_fractions: Tensor, k: float = 0.1) -> Tensor:
    """How far below the score the top share k of pixels alone is, relative to it; lower is better.

    1 minus the insertion curve at k, linear between its points (DeYoung et al. 2020, equation 2, relative to S(x) and with
    pixels for words). The name is theirs: at 0 the top pixels suffice.

    Args:
        insertion_curve: ``(N, K)``, see :func:`insertion_auc`.
        insertion_fractions: ``(K,)`` or ``(N, K)``.
        k: share of the image's pixels in (0, 1]; unless told the middle one of the paper's five.

    Returns:
        ``(N,)``, at most 1, negative (at least -19) where the top pixels alone score higher than the image; NaN where the
        curve is not finite or its start exceeds 0.5 (fill too weak).

    Example:
        >>> sufficiency(torch.tensor([[0.0, 0.8, 1.0]]), torch.tensor([0.0, 0.2, 1.0]))
        tensor([0.6000])

    """
    return 1 - _at(k, insertion_curve, insertion_fractions, insertion_curve[:, 0])


def monotonicity(insertion_curve: Tensor) -> Tensor:
    """Share of the insertion curve's ups and downs that are ups, in [0.5, 1]; higher is better.

    Σ max(Δ, 0) / Σ |Δ| over the steps of the curve. It is 1 exactly where no step falls, which is all that the yes or no
    of Luss et al. 2021 and Arya et al. 2019 asks. In between, our reading: a fall weighs what it costs, so that neither
    rounding errors nor the number of points decide. Theirs show the least attributed pixels first, ours the most. A curve
    that is tested rises by at least 0.5 in all, so that no map comes below 0.5.

    Args:
        insertion_curve: ``(N, K)``, see :func:`insertion_auc`.

    Returns:
        ``(N,)``; NaN where the curve is not finite, is flat, or starts above 0.5 (fill too weak).

    Example:
        >>> monotonicity(torch.tensor([[0.0, 0.5, 0.7, 1.0], [0.0, 0.5, 0.25, 1.0]]))
        tensor([1.0000, 0.8333])

    """
    steps = insertion_curve.double().diff(dim=1)
    value = steps.clamp_min(0).sum(dim=1) / steps.abs().sum(dim=1)
    return _where_testable(value, insertion_curve, insertion_curve[:, 0])


def irof(segment_deletion_curve: Tensor, segment_deletion_fractions: Tensor) -> Tensor:
    """Area over the curve of the score as regions are filled in the order of the map's mean in them; higher is better.

    Iterative removal of features (Rieger, Hansen 2020). Our reading: between 1 and the curve's floor, which is its value
    where everything is filled, so that 1 means gone at once and 0 never: :func:`deletion_auc` on whole regions, the other
    way round, and in [-38, 2] where the score leaves the range of its two ends.

    Args:
        segment_deletion_curve: S with the first regions filled, over S(x), ``(N, K)``: first the unperturbed point (1), last
            the filled image.
        segment_deletion_fractions: true shares of filled pixels or regions, ``(K,)`` or ``(N, K)``, from 0 to 1.

    Returns:
        ``(N,)``; NaN where the curve is not finite or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> irof(torch.tensor([[1.0, 0.2, 0.2]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.7500])

    """
    return 1 - _area_above_floor(segment_deletion_curve, segment_deletion_fractions, segment_deletion_curve[:, -1])


def fill_residual(confidence: Tensor, filled_confidence: Tensor) -> Tensor:
    """Share of the score that is left when everything is filled, ``(N,)`` in [0, 20]; NaN for a score below 0.05.

    Lower is better. A fault of the fill, not of a map. Above 0.5 the fill is too weak to test anything, and the areas of
    that target are NaN.

    Args:
        confidence: S(x), ``(N,)`` in [0, 1].
        filled_confidence: confidence in the filled image, ``(N,)`` in [0, 1].

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
    """The curve at the share k, linear between its points, ``(N,)``."""
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
