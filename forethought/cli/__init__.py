"""The command line: `forethought up` and `forethought generate`.

It may start any tier and call any service; nothing imports it.

    main                the typer app
    up                  the command that starts a local deployment and says what happens
      plan              options -> which process listens where
      local             the supervisor: start, wait for health, watch, stop
      probes            is a tier listening, loading or ready?
      process           children that never outlive this process
    generate            the command that streams text
      text_view         text coloured by origin, log-probabilities
      steps_view        the three steps of each round as a table
      json_view         one JSON object a line
      statistics        the line at the end
    failure             errors as one line with a hint
"""
