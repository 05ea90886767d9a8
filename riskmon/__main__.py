"""`python -m riskmon`."""

from __future__ import annotations

from riskmon.cli import main

if __name__ == "__main__":
    main()
