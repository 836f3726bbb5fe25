"""Find a bundle, read its configs and run them. Imports no other room: MONAI imports the classes that configs name."""
