"""The deterministic heart of riskmon: events in, decisions out, no clock and no I/O.

Nothing here imports anything of riskmon outside this package, reads a clock, logs or draws a
random number. Time arrives with each step. That is why live running, recovery after a crash,
replay and backtests are one code.
"""
