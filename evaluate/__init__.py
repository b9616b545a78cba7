"""How good it is: pure functions over images or features."""
