"""What a process needs to run: threads and tasks that are watched, memory, standard error."""
