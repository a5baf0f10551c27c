"""What a process tells while it works, what it keeps quiet about, and the memory it takes."""
