"""Creates the files that the containers share: the token of Prometheus, the secret of the OMS, and
the configuration of the sidecar, which contains the token. Existing secrets are kept.

    python prepare.py BASE_CONFIGURATION FOLDER
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys
from pathlib import Path


def main(base: Path, folder: Path) -> None:
    """Write all files to the folder."""
    tokens = folder / "tokens.toml"
    if not tokens.exists():
        command = [sys.executable, "-m", "riskmon", "token", "prometheus", "--role=read", "--json"]
        made = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        # Prometheus runs as another user, so every user in a container with the volume may read it.
        _write(folder / "prometheus.token", made.pop("token") + "\n", mode=0o644)
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in made.items()]
        _write(tokens, "[[http.tokens]]\n" + "".join(lines))
    secret = folder / "oms.secret"
    if not secret.exists():
        _write(secret, "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
    _write(folder / "riskmon.toml", base.read_text("utf-8") + "\n" + tokens.read_text("utf-8"))


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    # Atomically, so that an interrupted start does not leave half of a secret.
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode)
    unfinished.write_text(text, "utf-8")
    unfinished.chmod(mode)
    unfinished.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
