"""Device, link and edge as a discrete-event simulation, which uses nothing of the package.

Three servers take frames from queues, first in, first out. A frame is put into the queue of the
next stage that has work for it as soon as it can be. The link sends bit by bit, so to say: it
waits until either all is sent or its rate changes, and counts what has been sent until then.
"""

import bisect

import numpy as np
import simpy


def simulate(arrival, device_s, bits, edge_s, trip, moments, rates):
    """When each frame starts and finishes every stage, and when it is done.

    Args:
        arrival: (K,) s, not decreasing.
        device_s: (K,) s.
        bits: (K,) bits.
        edge_s: (K,) s.
        trip: (K,) s, paid once by a frame that sends anything; the link is free meanwhile.
        moments: When the rate changes, from the first arrival or earlier.
        rates: bit/s from each moment on; the last one for ever, so it must not be 0.

    Returns:
        (K, 3, 2) s, nan where a stage is skipped, and (K,) s.
    """
    work = np.stack([device_s, bits, edge_s], axis=-1)
    times, done = np.full((len(arrival), 3, 2), np.nan), np.array(arrival, dtype=float)
    env = simpy.Environment(initial_time=float(moments[0]))
    queues = [simpy.Store(env) for _ in range(3)]

    def hand_on(frame, stage):
        while stage < 3 and work[frame, stage] == 0:
            stage += 1
        done[frame] = env.now
        if stage < 3:
            queues[stage].put(frame)

    def arrive(frame):
        yield env.timeout(arrival[frame] - env.now)
        hand_on(frame, 0)

    def fly(frame):
        yield env.timeout(trip[frame])
        hand_on(frame, 2)

    def send(left):
        while left > 0:
            place = bisect.bisect_right(moments, env.now) - 1
            until = moments[place + 1] if place + 1 < len(moments) else np.inf
            rate = rates[place]
            if rate > 0 and env.now + left / rate <= until:
                yield env.timeout(left / rate)
                return
            left -= rate * (until - env.now)
            # To the moment itself, which a sum of floats might miss.
            yield env.timeout(until - env.now)
            while env.now < until:
                yield env.timeout(np.spacing(until))

    def server(stage):
        while True:
            frame = yield queues[stage].get()
            times[frame, stage, 0] = env.now
            if stage == 1:
                yield from send(work[frame, 1])
            else:
                yield env.timeout(work[frame, stage])
            times[frame, stage, 1] = env.now
            if stage == 1:
                env.process(fly(frame))
            else:
                hand_on(frame, stage + 1)

    for frame in range(len(arrival)):
        env.process(arrive(frame))
    for stage in range(3):
        env.process(server(stage))
    env.run()
    return times, done
