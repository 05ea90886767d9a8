"""A second, slow and obvious implementation of what the engine does."""
