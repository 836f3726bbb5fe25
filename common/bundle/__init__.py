"""Find a bundle, read its configs and run them."""
