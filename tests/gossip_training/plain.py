"""Gossip as one would write it down: one device after the other, in double precision, with torch.

It is written from the design notes of the problem and from the papers, and uses nothing of the
package but the images, which of them are drawn, and the fields of a scenario and of a trace.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from mec_gym.learning.hashing import draw_indices


@dataclass
class Device:
    """One device; ``others`` is what it is taught, by row."""

    number: int
    images: list  # numbers of those that it holds
    model: np.ndarray
    copy: np.ndarray  # what others hold of it
    mass: float = 1.0
    others: dict = field(default_factory=dict)


def layers(s, model):
    """The layers of a model as tensors, of which gradients are wanted."""
    parts, at = [], 0
    for inputs, outputs in pairwise(s.network.sizes):
        for shape in ((inputs, outputs), (outputs,)):
            count = int(np.prod(shape))
            part = torch.tensor(model[at : at + count].reshape(shape), requires_grad=True)
            parts.append(part)
            at += count
    return parts


def says(parts, images):
    """The logits of images."""
    return torch.relu(images @ parts[0] + parts[1]) @ parts[2] + parts[3]


def pixels(s, images):
    return torch.tensor(s.data.learn.images[images].astype(np.float64))


def row_of(s, device, place):
    """Which row of what it is taught belongs to an image, given its place among its images."""
    if s.payload == "class-logits":
        return int(s.data.learn.labels[device.images[place]])
    return place - (len(device.images) - s.shared)  # those that all hold come last


def train(s, device, key):
    """Its model after local training."""
    parts = layers(s, device.model)
    optimizer = torch.optim.SGD(parts, lr=s.learning_rate)
    drawn = draw_indices(key, device.number, s.local_steps * s.batch, len(device.images))
    for step in drawn.reshape(s.local_steps, s.batch).tolist():
        numbers = [device.images[place] for place in step]
        logits = says(parts, pixels(s, numbers))
        loss = functional.cross_entropy(logits, torch.tensor(s.data.learn.labels[numbers]))
        for each, place in zip(logits, step, strict=True):
            taught = device.others.get(row_of(s, device, place))
            if taught is not None:  # beside the label, in the mean over the minibatch
                loss = loss + functional.cross_entropy(each, torch.tensor(taught)) / s.batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.concatenate([part.detach().numpy().ravel() for part in parts])


def logits_to_send(s, device, trained):
    """What it says of each row, by row."""
    parts = [part.detach() for part in layers(s, trained)]
    if s.payload == "shared-logits":
        common = device.images[len(device.images) - s.shared :]
        return dict(enumerate(says(parts, pixels(s, common)).numpy()))
    by_class = {}
    for number in device.images:
        by_class.setdefault(int(s.data.learn.labels[number]), []).append(number)
    return {c: says(parts, pixels(s, found)).mean(dim=0).numpy() for c, found in by_class.items()}


def softmax(logits):
    return torch.softmax(torch.tensor(logits), dim=-1).numpy()


def largest_only(update, share):
    kept = int(np.ceil(round(share * len(update), 6)))
    found = np.zeros_like(update)
    best = sorted(range(len(update)), key=lambda k: (-abs(update[k]), k))[:kept]
    found[best] = update[best]
    return found


def metropolis(heard, i, j):
    return 1 / (1 + max(len(heard[i]), len(heard[j])))


def play_round(s, devices, key, active, reduce, heard, turn):
    """Let one round go by.

    Args:
        s: The scenario.
        devices: All of them; they are changed.
        key: The round's key.
        active: The numbers of those that take part.
        reduce: Whether all of them average all.
        heard: Those whom each device listens to, in order; of those that take part.
        turn: The number of the round, from 0.
    """
    trained = {i: train(s, devices[i], key) for i in active}
    if s.payload.endswith("logits"):
        said = {i: logits_to_send(s, devices[i], trained[i]) for i in active}
        for i in active:
            speakers = [j for j in active if j != i] if reduce else heard[i]
            for row in {row for j in speakers for row in said[j]}:
                known = [said[j][row] for j in speakers if row in said[j]]
                devices[i].others[row] = softmax(np.mean(known, axis=0))
            devices[i].model = trained[i]
        return
    if s.payload == "choco":
        for i in active:
            devices[i].copy = devices[i].copy + largest_only(
                trained[i] - devices[i].copy, s.payload_share
            )
    after, mass = {}, {i: devices[i].mass for i in active}
    if reduce and active:
        total = sum(mass.values())
        mean = sum(mass[i] * trained[i] for i in active) / total
        after = dict.fromkeys(active, mean)
        mass = dict.fromkeys(active, total / len(active))
    else:
        sent = {i: devices[i].model if s.overlap else trained[i] for i in active}
        listeners = {j: [i for i in active if j in heard[i]] for j in active}
        for i in active:
            if s.payload == "choco":
                after[i] = trained[i].copy()
                for j in heard[i]:
                    by = metropolis(heard, i, j)
                    if s.mixing == "uniform":
                        by = 1 / (1 + len(heard[i]))
                    after[i] += s.choco_step * by * (devices[j].copy - devices[i].copy)
            elif s.payload == "segments":
                after[i] = sent[i].copy()
                cuts = np.linspace(0, len(after[i]), s.segments + 1).astype(int)
                for segment in range(s.segments):
                    part = slice(cuts[segment], cuts[segment + 1])
                    givers = [
                        j for k, j in enumerate(heard[i]) if (k + turn - segment) % s.segments == 0
                    ]
                    stack = [sent[i][part], *(sent[j][part] for j in givers)]
                    after[i][part] = np.mean(stack, axis=0)
            elif s.mixing == "push-sum":  # a sum and a mass, whose quotient is the model
                weight = devices[i].mass / (1 + len(listeners[i]))
                top = weight * sent[i]
                for j in heard[i]:
                    part = devices[j].mass / (1 + len(listeners[j]))
                    top, weight = top + part * sent[j], weight + part
                after[i], mass[i] = top / weight, weight
            elif s.mixing == "metropolis":
                after[i] = sent[i].copy()
                for j in heard[i]:
                    after[i] += metropolis(heard, i, j) * (sent[j] - sent[i])
            else:
                after[i] = np.mean([sent[i], *(sent[j] for j in heard[i])], axis=0)
            if s.overlap:  # what was learnt while models were on their way
                after[i] = after[i] + trained[i] - sent[i]
    for i in active:
        devices[i].model = after[i]
        devices[i].mass = mass[i]


def begin(s, slot):
    """The devices before the first round of one episode."""
    initial = slot.initial.astype(np.float64)
    return [
        Device(
            number=i,
            images=slot.own[i, : slot.samples[i]].tolist(),
            model=initial.copy(),
            copy=np.zeros_like(initial),
        )
        for i in range(s.devices)
    ]
