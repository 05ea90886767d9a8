"""Who may call the sidecar: tokens, signed requests, and what is known of a peer.

The settings, the HTTP edge, the client and the commands share these definitions. Bots import them,
so the package needs no HTTP library.
"""
