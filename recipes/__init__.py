"""Built-in recipes: YAML only, found as package data."""
