"""`forethought sessions`: what a deployment has stored of its conversations."""
