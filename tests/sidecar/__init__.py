"""The sidecar as users have it: a process of its own, real sockets, real kills."""
