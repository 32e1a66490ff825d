"""The loop: speculation, verification, rejection, round by round."""
