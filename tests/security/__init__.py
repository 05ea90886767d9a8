"""What an attacker can send and what the sidecar answers."""
