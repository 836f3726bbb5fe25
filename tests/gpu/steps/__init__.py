"""The steps of the kit: each a module with ``run(kit)``, run in a process of its own."""
