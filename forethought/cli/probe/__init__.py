"""`forethought probe`: does a running deployment say the same with speculation as without?

    command    the command: samples, compares, shows, exits
    options    its options, with their help
    view       progress, the table, the verdict in words

How it samples and compares is in `forethought.probe`. The checks of health in
`forethought.local.processes.probes` are something else.
"""
