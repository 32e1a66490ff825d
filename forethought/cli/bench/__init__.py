"""`forethought bench`: what a deployment does under load.

    app                 the group of commands
    throughput          the command: load against a whole deployment
      throughput_options  its options, with their help
      throughput_report   its table, its JSON rows, its plot, its progress
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
