"""Strata: by hand, and that each class has its share wherever the list is cut."""

import numpy as np

from mec_gym.learning.strata import in_strata


def test_by_hand():
    # Class 0 at 1/8, 3/8, 5/8 and 7/8, class 1 at 1/4 and 3/4.
    labels = np.array([1, 1, 0, 0, 0, 0])
    assert in_strata(labels, np.array([4, 1, 0, 5, 2, 3])).tolist() == [4, 1, 5, 2, 0, 3]
    # Ties follow the order: classes 0 and 1 at 1/4 and 3/4, class 2 at 1/2.
    labels = np.array([0, 0, 1, 1, 2])
    assert in_strata(labels, np.array([3, 0, 4, 1, 2])).tolist() == [3, 0, 4, 1, 2]
    assert in_strata(labels, np.array([4, 1, 2, 0, 3])).tolist() == [1, 2, 4, 0, 3]


def test_each_class_has_its_share_wherever_the_list_is_cut():
    counts = np.array([3, 50, 20, 27])
    labels = np.repeat(np.arange(4), counts)
    order = np.random.default_rng(0).permutation(100)
    found = in_strata(labels, order)
    assert sorted(found) == list(range(100))
    so_far = (labels[found][:, None] == np.arange(4)).cumsum(axis=0)
    exact = np.arange(1, 101)[:, None] * counts / 100
    assert np.abs(so_far - exact).max() < 1
    for number in range(4):  # within a class, the order stays
        np.testing.assert_array_equal(
            found[labels[found] == number], order[labels[order] == number]
        )
