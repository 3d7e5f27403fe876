def least_period(work, bits, speed, link, present):
    raise NotImplementedError
