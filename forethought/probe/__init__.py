"""Does a deployment say the same with speculation and without it?"""
