"""The tests of riskmon; run by `make test`."""
