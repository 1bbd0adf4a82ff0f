"""What must be true, watched from outside: what reached the agent, DynamoDB and the clients."""
