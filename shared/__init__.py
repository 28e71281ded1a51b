"""How things travel: the runtime that every service uses."""
