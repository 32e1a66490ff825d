"""`forethought distill`: a draft for any target, made from the target alone."""
