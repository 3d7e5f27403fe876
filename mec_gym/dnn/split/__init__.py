"""Any network cut in two by a set of layers: what one side computes and sends, the other ends.

``network`` traces a module once and cuts it anywhere, ``halves`` is what comes of a cut, and
``memory`` says how tensors lie in memory. ``plan`` decides who runs what and what crosses when, and
``building`` makes modules of it.
"""

from mec_gym.dnn.split.halves import Halves, TensorSpec, check_equal
from mec_gym.dnn.split.network import SplitNetwork

__all__ = ["Halves", "SplitNetwork", "TensorSpec", "check_equal"]
