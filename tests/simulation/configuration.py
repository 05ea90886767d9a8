"""The configuration of a simulated sidecar."""

from __future__ import annotations

from pathlib import Path
from random import Random

from riskmon.settings import Settings, load

LEASE_SECONDS = 0.5
SECRET = "whsec_c2ltdWxhdGlvbnMtc2lnbi1ub3RoaW5nLWF0LWFsbCE="
CONFIGURATION = """
account = "simulated"
state_dir = "{state}"
gate = "{gate}"
lease = {lease}
on_unclean_start = "{unclean}"
on_stop = "{stop}"
max_scopes = 32
[http]
listen = "127.0.0.1:0"
[limits.latency_p99]
max = 0.2
window = 20
min_samples = 4
breaches = 1
recover = {{ after = 1, max = 4, probes = 3 }}
[limits.error_streak]
max = 5
recover = {{ after = 1, probes = 0 }}
[limits.edge]
enabled = false
"""
TARGET = '[[cancel]]\nname = "{name}"\nurl = "http://127.0.0.1:1/"\nsecret = "{secret}"\n'


def configured(directory: Path, random: Random, targets: tuple[str, ...]) -> Settings:
    """The settings of a sidecar with its files in ``directory``, some of them by chance."""
    gate = directory / "shm" / "gate"
    gate.parent.mkdir(mode=0o755)
    text = CONFIGURATION.format(
        state=directory / "state",
        gate=gate,
        lease=LEASE_SECONDS,
        unclean=random.choice(("cancel", "cancel", "keep")),
        stop=random.choice(("cancel", "keep")),
    )
    for name in targets:
        text += TARGET.format(name=name, secret=SECRET)
    file = directory / "riskmon.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, env={})
