"""What happens to a request: the pipeline match, hooks, action, upstream, and the actions themselves."""
