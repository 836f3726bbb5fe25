"""The commands, one module per group. Modules are imported only when needed, so that help comes at once."""
