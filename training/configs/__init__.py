"""The recipes (flat TOML) of the starter students; keys and meanings are in training/recipes.py."""
