"""The peers, as a user would write them: scripts that import nothing of this product."""
