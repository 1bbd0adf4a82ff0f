"""What must be true, checked after every write, every reply, and at the end of a schedule.

The checks watch from outside: what reached the agent, what DynamoDB holds, what clients are told.

    known.py    what is known of each task, which all of them look at
    writes.py   after every write
    agent.py    whenever an agent is started or stopped, or a worker raises
    answers.py  after every reply of the API
    ends.py     at the end
"""
