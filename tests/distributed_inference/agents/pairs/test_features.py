"""How features lie in rows: every number has one name, and both libraries find it there."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from agents.distributed_inference.pairs.features import (
    DeviceFeatures,
    Features,
    Layout,
    PairDelays,
    PairFeatures,
    RoundFeatures,
    columns,
    named,
    width,
)

LAYOUTS = [Layout(1, 1), Layout(3, 2), Layout(2, 5)]


def fields_of(features):
    return [*columns(features.pair), *columns(features.device), *columns(features.round)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_number_has_one_name(layout):
    """Fields filled with different numbers fill a row, in the order that is promised."""
    row = np.full(layout.width, -1.0, dtype=np.float32)
    features = layout.unpack(row)
    assert type(features) is Features
    n, p = layout.devices, layout.places
    assert p == layout.servers + 1
    for record, shape in ((features.pair, (n, p)), (features.device, (n,)), (features.round, ())):
        assert all(field.shape == shape for field in columns(record))
    for k, field in enumerate(fields_of(features)):
        field[...] = 100 * k + np.arange(field.size).reshape(field.shape)
    assert len(np.unique(row)) == layout.width and row.min() == 0
    tables = [np.stack(columns(r), -1) for r in (features.pair, features.device, features.round)]
    assert np.array_equal(np.concatenate([table.ravel() for table in tables]), row)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
def test_fields_are_views_of_rows_of_any_batch(batch):
    layout = Layout(3, 2)
    rows = np.zeros((*batch, layout.width), dtype=np.float32)
    features = layout.unpack(rows)
    assert features.pair.now.shape == (*batch, 3, 3)
    assert features.device.delay.shape == (*batch, 3)
    assert features.round.crowd.shape == batch
    for field in fields_of(features):
        field[...] = 1.0
    assert (rows == 1.0).all()


def test_fields_are_views_where_rows_do_not_lie_side_by_side():
    layout = Layout(2, 2)
    rows = np.zeros((4, layout.width + 5), dtype=np.float32)
    features = layout.unpack(rows[::2, : layout.width])
    for field in fields_of(features):
        field[...] = 1.0
    assert (rows[::2, : layout.width] == 1.0).all() and rows.sum() == 2 * layout.width


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_and_torch_find_the_same(layout):
    rows = np.random.default_rng(0).random((5, layout.width), dtype=np.float32)
    ours, theirs = layout.unpack(rows), layout.unpack(torch.from_numpy(rows))
    for mine, its in zip(fields_of(ours), fields_of(theirs), strict=True):
        assert isinstance(its, torch.Tensor)
        assert np.array_equal(mine, its.numpy())


def test_records():
    assert (width(PairDelays), width(PairFeatures)) == (9, 12)
    assert (width(DeviceFeatures), width(RoundFeatures)) == (6, 2)
    table = np.random.default_rng(0).random((4, width(PairFeatures)))
    pair = named(PairFeatures, table)
    assert type(pair) is PairFeatures
    assert np.array_equal(np.stack(columns(pair), -1), table)
    # Delays come first, so they are what they are as a record of their own.
    delays = columns(pair, PairDelays)
    assert len(delays) == width(PairDelays) and delays[0] is pair.now and delays[-1] is pair.send
    assert columns(RoundFeatures(1, 2)) == [1, 2]


def test_the_head_can_be_used_without_torch():
    program = (
        "import sys, mec_gym\n"
        "from agents.distributed_inference.pairs.head import PairsHead\n"
        "problem = mec_gym.make_problem('mec/DistributedInference-v1')\n"
        "observation = problem.observation_space.sample()\n"
        "head = PairsHead(problem)\n"
        "assert head.inputs(observation).shape == head.input_space.shape\n"
        "assert 'pairs' in head.networks and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
