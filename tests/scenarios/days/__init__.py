"""Hours of trading at simulated exchanges, as bots of different kinds report them."""
