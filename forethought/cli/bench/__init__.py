"""`forethought bench`: what a deployment does under load.

    app                 the group of commands
    throughput          the command: load against a whole deployment
      throughput_options  its options, with their help
      throughput_report   its table, its JSON rows, its plot, its progress
    policy              the command: the adaptive choice of K, with a good and a useless draft
      policy_options    its options, with their help
      policy_points     its arms, and what they came to at each point
      policy_goals      what the policy is held to
      policy_report     its table, its JSON rows, its plot
      useless_draft     a draft model that guesses nothing right
    load                what is sent, and how often
      deployment        the deployment to measure: one that runs, or one started for it
      prompts           what is asked
      generation_arm    requests to a GenerationService, timed
    closed_loop         so many requests under way at a time, each timed
    schedule            arms that take turns
    statistics          from timed requests to medians and percentiles
    report              tables and JSON documents of any benchmark
    machine             what it ran on
    plot                lines over an axis, as SVG

The first block is about Forethought; the second knows nothing of it, and serves benchmarks of
other servers too.
"""
