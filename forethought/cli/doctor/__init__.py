"""`forethought doctor`: one look at a deployment from outside.

command       the command: looks, shows, exits
examination   asks each orchestrator, and looks at its certificate
findings      what is wrong, and what to do
view          what there is, line by line, for people
document      the same as JSON
"""
