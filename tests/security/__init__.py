"""What other users, and programs in between, must not be able to do."""
