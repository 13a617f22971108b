"""One generation: what the stages do with a `State`, conformation by conformation, with the generation's plan."""
