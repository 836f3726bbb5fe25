"""Find a bundle, read its configs and run them. Knows no other room: what a config names is imported by MONAI."""
