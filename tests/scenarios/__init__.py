"""Stories of risk limits, as tables that are read without knowing the code."""
