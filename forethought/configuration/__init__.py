"""Where settings come from, and what is said of those that are wrong.

variables     environment variables: ours, misspelt ones, and those that Kubernetes adds
config_file   the TOML file with a section for each process
complaints    what pydantic finds wrong, in the words of who wrote it
suggestions   the name that was meant
removed       settings that were removed, and what replaces them
"""
