"""What has to be shown and measured on a GPU, prepared so that a few minutes with one are enough: see README.md."""
