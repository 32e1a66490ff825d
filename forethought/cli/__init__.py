"""The command line: `forethought up`, `generate`, `chat`, `probe`, `bench` and the others.

It starts any service as a process and calls any of them; nothing imports it.

    __main__   the console script
    guard      the outermost frame: what ends a command is one line and an exit code
    main       the typer app: a list of commands
    lazy       commands that are imported when they run
    failure    errors as one line with a hint
    signals    Ctrl-C as a cancellation
    options    options that several commands share
    views      text, steps, JSON: what commands show of an answer
    pages      pages of the documentation that are made from the code

Each command is a package of its name, or a module where it is small. What works without a command
line is elsewhere: local deployments in `forethought.local`, measuring in `forethought.bench` and
`forethought.probe`, training in `forethought.distill`.
"""
