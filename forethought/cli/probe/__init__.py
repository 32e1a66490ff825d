"""`forethought probe`: does a running deployment say the same with speculation as without?

    command             the command: samples, compares, shows, exits
    options             its options, with their help
    prompts             what is asked unless something else is named
    sampling            many short answers of both arms, in turns
    verdict             from samples to lossless, biased or inconclusive
      homogeneity       are two sets of outcomes draws from one distribution?
      chi_squared       the tails of that test's distributions
    report              the verdict with what explains it
    view                progress, the table, the verdict in words
    document            the same as JSON

`verdict` and what it stands on are arithmetic without a network, and are tested alone. The checks
of health in `forethought.local.probes` are something else.
"""
