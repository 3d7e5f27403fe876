"""What holds for all tests."""

import signal

# Whoever starts the tests in the background of a script lets them, and all that they start, ignore
# Ctrl-C. Several tests are about what it does.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
