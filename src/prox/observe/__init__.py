"""What prox tells about itself: log records, access logs, counters.

Everything in prox logs through the stdlib's loggers named `prox.*`; only `prox serve` calls `logs.setup`, so
a program that embeds prox decides about its logs itself.
"""
