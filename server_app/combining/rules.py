"""The combiners by name.

To add one: write a function with the signature of ``linear``, add it to ``COMBINERS``, say in
``fedfm.config.coherence.combining`` what it goes with, and add ``conf/combining/<name>.yaml``. Keyword-only arguments
are the rule's parameters.
"""

from collections.abc import Callable, Mapping

from server_app.combining.low_rank import fedex, ffa_svd, flexlora
from server_app.combining.received import Combined, Received, combination
from server_app.combining.robust import krum, median, multi_krum, norm_clipping, trimmed_mean


def linear(received: Received) -> Combined:
    """Return the sum of weight times update (FedAvg, McMahan et al. 2017, arXiv:1602.05629, algorithm 1)."""
    return combination(received, received.weights)


COMBINERS: Mapping[str, Callable[..., Combined]] = {
    "linear": linear,
    "ffa_svd": ffa_svd,
    "flexlora": flexlora,
    "fedex": fedex,
    "norm_clipping": norm_clipping,
    "trimmed_mean": trimmed_mean,
    "median": median,
    "krum": krum,
    "multi_krum": multi_krum,
}
