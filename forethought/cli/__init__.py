"""The command line: `forethought up`, `generate`, `probe` and `bench`.

It may start any tier and call any service; nothing imports it.

    __main__            the console script
    guard               the outermost frame: what ends a command is one line and an exit code
    main                the typer app: a list of commands
    lazy                commands that are imported when they run
    up                  the command that starts a local deployment
      up_options        its options, with their help
      up_view           what it shows
      plan              from options to processes and ports
      local             the supervisor: start, wait until ready, watch, stop; prints nothing
      probes            is a tier away, loading or ready? (not the command `probe`)
      process           children that never outlive this process
      die_with_parent   the program through which they are started
      signals           Ctrl-C as a cancellation
    generate            the command that streams text
      generate_options  its options, with their help
      text_view         text coloured by origin
      steps_view        the three steps of each round as a table
      json_view         one JSON object a line
      tokens            how a token looks, on any of them
      statistics        the line at the end
    probe               a package with the command that checks a deployment's distribution
    bench               a package with the commands that measure
    failure             errors as one line with a hint
"""
