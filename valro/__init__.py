"""What the functions share: tasks and their form in DynamoDB, HTTP in Lambda, and the agent."""
