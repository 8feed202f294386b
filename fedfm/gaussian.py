"""What a Gaussian mechanism allows exactly, where every unit is in every step: closed forms.

Telling a patient's absence from presence is then telling N(0, 1) from N(mu, 1): Gaussian
differential privacy (Dong, Roth, Su 2022, arXiv:1905.02383).
"""

import math
from statistics import NormalDist

_NORMAL = NormalDist()


def delta_of(mu: float, epsilon: float) -> float:
    """Return the least delta at ``epsilon`` (Balle and Wang 2018, arXiv:1805.06530, theorem 8; Dong et al., eq. 6)."""
    if mu <= 0:
        return 0.0
    first = _cdf(mu / 2 - epsilon / mu)
    return max(first - math.exp(epsilon + _log_cdf(-mu / 2 - epsilon / mu)), 0.0)


def epsilon_of(mu: float, delta: float) -> float:
    """Return the least epsilon at ``delta``, in (0, 1), by bisection to 1e-9; 0 for a ``mu`` of 0 or below."""
    if math.isinf(mu):
        return math.inf
    low, high = 0.0, 1.0
    if delta_of(mu, low) <= delta:
        return 0.0
    while delta_of(mu, high) > delta:
        high *= 2
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(mu, middle) <= delta else (middle, high)
    return high


def best_guess(mu: float) -> float:
    """Return how often the best guess is right that a coin decides: in or out; in [0.5, 1]."""
    return _cdf(mu / 2)


def best_area(mu: float) -> float:
    """Return the largest area under the ROC curve of any attack; in [0.5, 1]."""
    return _cdf(mu / math.sqrt(2))


def best_hits(mu: float, false_alarms: float) -> float:
    """Return the largest share of members that any attack finds at that share of false alarms, in (0, 1)."""
    return _cdf(_NORMAL.inv_cdf(false_alarms) + mu)


def _cdf(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2  # exact in the lower tail, where 1 + erf is not


def _log_cdf(z: float) -> float:
    """Return log of the normal distribution function; Mills' ratio where the function itself underflows."""
    if z > -30:
        return math.log(_cdf(z))
    return -z * z / 2 - math.log(-z * math.sqrt(2 * math.pi)) + math.log1p(-1 / (z * z))
