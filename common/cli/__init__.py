"""The commands, one module per group. Only what runs a command is imported, so that help comes at once."""
