"""What a reconstruction will take, before it starts: memory and time."""
