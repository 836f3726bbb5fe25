"""What the bundles share: slides, annotations, data, networks, losses, metrics and the whole-slide engine."""
