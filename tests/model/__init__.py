"""The protocol of the lease as a small model whose states are all visited."""
