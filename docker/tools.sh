# What the scripts of this folder share. To be sourced in the root of the repository.

REPOSITORY=${REPOSITORY-forethought-}
TAG=${TAG-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' forethought/__init__.py)}

image_of() { # ROLE
  printf '%s%s:%s' "$REPOSITORY" "$1" "$TAG"
}

first_of() { # PROGRAM...: the first that is there and works
  local program
  for program in "$@"; do
    if command -v "$program" >/dev/null && "$program" version >/dev/null 2>&1; then
      printf '%s' "$program"
      return
    fi
  done
  return 1
}
