"""The two promises, proven: the real handlers in a simulated world that breaks at every step.

    python -m simulation --count 1000        a thousand schedules
    python -m simulation --seed 42 --trace   one of them, told in full

A schedule is a short life of the backend in virtual time: clients post and poll, cancel and delete,
Lambda delivers events late, twice or never, DynamoDB loses answers, sandboxes die, the agent stalls,
or works on for hours and reports. What runs is the code that is deployed; only the clients of AWS,
the clock and chance are replaced. Everything that happens follows from one number, so a failing
schedule can be run again.

    world.py       virtual time, chance, threads, sandboxes and their end
    dynamodb.py    a DynamoDB in memory, as far as the store uses it
    wire.py        what breaks below botocore, and what comes out: a table that wire_record.py measures
    network.py     the way to a service: each call meets what the table has for it
    agent.py       the agent, what it says and when, and botocore's client of it
    aws.py         botocore's other clients, and Lambda's queue
    checks/        what must be true after every write, every reply, and at the end
    backend.py     the real modules, put into a world
    callers.py     a request of the API's on its way through the gateway, and its reply
    reporters.py   agents that work on by themselves and report
    people.py      those who post, poll, list, cancel, delete, and call the worker by hand
    watching.py    the watcher: a stream, a queue and a bus with their faults, in every fourth schedule
    schedule.py    one schedule: people and a backend, from a seed
    mutations.py   deliberate faults in the code, each of which must be found

Each file needs only those above it.
"""
