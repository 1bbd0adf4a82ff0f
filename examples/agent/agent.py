"""The plain way: an AgentCore agent that works and returns its answer as JSON."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()


@dataclass
class Vendor:
    """A business as pages show it; add whatever fields you have."""

    id: str
    name: str
    email: str
    service: str
    city: str
    price: float


# In the place of your own directory, database or search.
VENDORS = [
    Vendor("v1", "Green Fern", "green-fern@example.com", "landscaper", "Charlotte", 240),
    Vendor("v2", "Dogwood Care", "dogwood@example.com", "landscaper", "Charlotte", 195),
    Vendor("v3", "Lone Brush", "lone-brush@example.com", "painter", "Austin", 390),
]


@app.entrypoint
def invoke(payload: dict[str, Any]) -> dict[str, Any]:
    """Answers {"prompt": "Find me a landscaper in Charlotte under $300", "task_id": "…"}."""
    vendors = find_vendors(payload["prompt"])
    if not vendors:
        return {"response": "I know nobody for that. Name a service, a city and a budget."}
    found = ", ".join(f"{vendor.name} (${vendor.price:g})" for vendor in vendors)
    return {
        "response": f"I found {found}.",
        "vendors": [asdict(vendor) for vendor in vendors],
        "quotes": [{"vendor_id": vendor.id, "amount": vendor.price} for vendor in vendors],
        "emails": [],  # {"recipient", "subject", "body"} of each that was sent: none by this agent
    }


def find_vendors(prompt: str) -> list[Vendor]:
    """Returns the vendors for the service, city and budget in the prompt, cheapest first."""
    words = set(re.findall(r"\w+", prompt.casefold()))
    limit = re.search(r"\$(\d+)", prompt)
    budget = float(limit[1]) if limit else float("inf")
    fitting = [v for v in VENDORS if {v.service, v.city.casefold()} <= words and v.price <= budget]
    return sorted(fitting, key=lambda vendor: vendor.price)


if __name__ == "__main__":
    app.run()
