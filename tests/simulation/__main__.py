"""`python -m tests.simulation SEED`: the story of a seed; `FIRST END`: a range of seeds."""

from tests.simulation.run import main

raise SystemExit(main())
