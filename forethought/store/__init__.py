"""What outlives a process: session records and keys and values, in Redis.

The only place that knows Redis. Whatever goes wrong there is an error of `forethought.errors`,
for session records, or a miss, for keys and values.
"""
