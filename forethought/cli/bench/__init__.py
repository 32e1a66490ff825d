"""`forethought bench`: the commands that measure a deployment under load.

    app           the group of commands
    throughput    load against a whole deployment
    kinds         what speculation brings by kind of prompt
    policy        the adaptive choice of K, with a good and a useless draft
    engine        one forward pass against its products alone
    deployment    the deployment to measure: one that runs, or one started for it

Beside a command lie its options (`throughput_options`) and its table, JSON and plot
(`throughput_report`). How it measures is in `forethought.bench`.
"""
