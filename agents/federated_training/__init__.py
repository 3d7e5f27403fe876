"""What plays federated training."""

from agents.federated_training.head import FreeWeightsHead, WeightsHead
from agents.heads.protocol import HeadEntry

HEADS = {
    "weights": HeadEntry("the weights of the linear policy, at every step anew", WeightsHead),
    "weights-unaided": HeadEntry("the same, from weights of 0", FreeWeightsHead),
}
