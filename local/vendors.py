"""The sample agent's vendor catalogue, how it reads a prompt, and what it answers.

Every vendor is fictional and every address is under example.com, which RFC 2606 reserves.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# service -> (what a vendor of it is called, how people ask for it)
SERVICES = {
    "landscaping": ("landscaper", r"landscap\w*|lawn\w*|garden\w*|yard ?work"),
    "painting": ("painter", r"paint\w*"),
    "plumbing": ("plumber", r"plumb\w*|leak\w*|pipes?"),
    "electrical": ("electrician", r"electric\w*|wiring|rewir\w*"),
    "cleaning": ("cleaner", r"clean\w*|housekeep\w*|maids?"),
}
CITIES = ("Charlotte", "Raleigh", "Austin", "Denver")

# service, city, name, price of a usual job in US dollars, rating out of 5
_ROWS = (
    ("landscaping", "Charlotte", "Green Fern Landscaping", 240, 4.8),
    ("landscaping", "Charlotte", "Queen City Lawn & Garden", 275.5, 4.6),
    ("landscaping", "Charlotte", "Dogwood Outdoor Care", 195, 4.4),
    ("landscaping", "Charlotte", "Myers Park Estates Grounds", 620, 4.9),
    ("landscaping", "Raleigh", "Oak Line Landscapes", 260, 4.7),
    ("landscaping", "Raleigh", "Capital Turf", 180, 4.2),
    ("landscaping", "Austin", "Bluebonnet Yards", 310, 4.7),
    ("landscaping", "Austin", "Dry Creek Xeriscapes", 280, 4.5),
    ("landscaping", "Denver", "Mile High Meadows", 330, 4.6),
    ("landscaping", "Denver", "Aspen & Stone", 410, 4.8),
    ("painting", "Charlotte", "Second Coat Painting", 380, 4.7),
    ("painting", "Charlotte", "Tidewater Painters", 450, 4.5),
    ("painting", "Charlotte", "Plain & Primer", 295, 4.3),
    ("painting", "Raleigh", "Triangle Brushworks", 420, 4.6),
    ("painting", "Raleigh", "Fresh Trim Painters", 340, 4.4),
    ("painting", "Austin", "Lone Brush", 390, 4.8),
    ("painting", "Austin", "Hill Country Colour", 360.75, 4.5),
    ("painting", "Denver", "Front Range Painting", 480, 4.7),
    ("plumbing", "Charlotte", "Catawba Plumbing", 210, 4.8),
    ("plumbing", "Charlotte", "Clearwater Pipe & Drain", 165, 4.5),
    ("plumbing", "Raleigh", "Raleigh Rooter", 175, 4.3),
    ("plumbing", "Raleigh", "Copper & Crane", 230, 4.7),
    ("plumbing", "Austin", "Barton Plumbing", 225, 4.6),
    ("plumbing", "Denver", "High Plains Plumbing", 240, 4.6),
    ("plumbing", "Denver", "Cherry Creek Drains", 190, 4.4),
    ("electrical", "Charlotte", "Piedmont Electric", 260, 4.7),
    ("electrical", "Charlotte", "Bright Wire", 220, 4.6),
    ("electrical", "Raleigh", "Acorn Electrical", 245, 4.8),
    ("electrical", "Austin", "Live Oak Electric", 270, 4.5),
    ("electrical", "Denver", "Summit Circuit", 285, 4.7),
    ("cleaning", "Charlotte", "Tidy Acorn", 120, 4.7),
    ("cleaning", "Charlotte", "Sparrow House Cleaning", 145, 4.8),
    ("cleaning", "Charlotte", "Monday Mops", 99.5, 4.2),
    ("cleaning", "Raleigh", "Crisp & Clear", 130, 4.6),
    ("cleaning", "Austin", "Sunday Shine", 140, 4.6),
    ("cleaning", "Denver", "Snowmelt Cleaners", 150, 4.5),
)

_AMOUNT = r"\$?\s*(\d[\d,]*(?:\.\d{1,2})?)"
# "under $300", "less than 300 dollars", "max $1,200.50", or just "$300"
_BUDGET = re.compile(
    r"(?:under|below|less than|at most|up to|within|max(?:imum)?(?: of)?|budget(?: of| is)?)\s*"
    + _AMOUNT
    + r"|\$\s*(\d[\d,]*(?:\.\d{1,2})?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Vendor:
    """One company in the catalogue."""

    service: str
    city: str
    name: str
    price: float
    rating: float

    @property
    def id(self) -> str:
        """What quotes name the vendor by, e.g. green-fern-landscaping."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def email(self) -> str:
        """The address that quotes are asked of, e.g. green-fern-landscaping@example.com."""
        return f"{self.id}@example.com"


@dataclass(frozen=True)
class Request:
    """What a prompt asks for; None is what it does not say or we do not know."""

    service: str | None
    city: str | None
    budget: float | None


CATALOGUE = tuple(Vendor(*row) for row in _ROWS)


def read_prompt(prompt: str) -> Request:
    """Finds service, city and budget in what a person wrote."""
    service = _first(prompt, {name: words for name, (_, words) in SERVICES.items()})
    city = _first(prompt, {name: name for name in CITIES})
    amount = _BUDGET.search(prompt)
    budget = float((amount[1] or amount[2]).replace(",", "")) if amount else None
    return Request(service, city, budget)


def in_context(prompt: str, said_before: list[str]) -> str:
    """Adds to a prompt what it leaves out and the last one before it said."""
    request = read_prompt(prompt)
    if not said_before or (request.service and request.city):
        return prompt
    before = in_context(re.sub(r"\[agent:.*?\]", "", said_before[-1]), said_before[:-1])
    return f"{prompt} {before}"


def find_vendors(request: Request) -> list[Vendor]:
    """Returns the vendors of that service in that city within the budget, best rated first."""
    found = [
        vendor
        for vendor in CATALOGUE
        if vendor.service == request.service
        and vendor.city == request.city
        and (request.budget is None or vendor.price <= request.budget)
    ]
    return sorted(found, key=lambda vendor: (-vendor.rating, vendor.name))


def build_answer(prompt: str) -> dict[str, Any]:
    """Returns the whole answer to a prompt: response, vendors, quotes, emails, emails_sent."""
    request = read_prompt(prompt)
    vendors = find_vendors(request)
    emails = [_write_email(vendor, request) for vendor in vendors]
    return {
        "response": _response_text(request, vendors),
        "vendors": [_public_vendor(vendor) for vendor in vendors],
        "quotes": [_quote(vendor) for vendor in vendors],
        "emails": emails,
        "emails_sent": len(emails),
    }


def ask_to_book(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer that asks whether to book the best rated vendor, if there is one."""
    if not answer["vendors"]:
        return answer
    best = answer["vendors"][0]
    question = f"Shall I book {best['name']} for {_dollars(best['price'])}?"
    schema = {"type": "boolean"}
    asked = {"id": "booking", "message": question, "response_schema": schema}
    return {**answer, "response": f"{answer['response']} {question}", "interrupts": [asked]}


def answer_to_booking(answer: dict[str, Any], said: Any) -> dict[str, Any]:
    """Returns what it answers once it knows whether to book."""
    best, quotes = answer["vendors"][:1], answer["quotes"][:1]
    is_yes = said is True or str(said).lower().startswith("y")
    if not best or not is_yes:
        return {"response": "I have booked nobody.", "vendors": [], "quotes": [], "emails": []}
    response = f"I've booked {best[0]['name']} for {_dollars(best[0]['price'])}."
    return {"response": response, "vendors": best, "quotes": quotes, "emails": []}


def progress_lines(prompt: str, answer: dict[str, Any]) -> list[str]:
    """Returns what the agent says while it works, one line a step."""
    request = read_prompt(prompt)
    if request.service is None or request.city is None:
        return ["Reading the request", "Looking through the catalogue"]
    within = f" within {_dollars(request.budget)}" if request.budget is not None else ""
    lines = [
        f"Looking for {_people(request.service)} in {request.city}{within}",
        f"Found {_count(len(answer['vendors']), request.service)}{within}",
    ]
    lines += [f"E-mailed {vendor['name']} at {vendor['email']}" for vendor in answer["vendors"]]
    return [*lines, "Comparing quotes"] if answer["quotes"] else lines


def carry_out(line: str, answer: dict[str, Any]) -> bool:
    """Does what a line of progress says: returns whether that sent an e-mail of the answer."""
    for email in answer["emails"]:
        if line.startswith("E-mailed ") and line.endswith(f" at {email['recipient']}"):
            email["timestamp"] = _now()
            return True
    return False


def answer_so_far(answer: dict[str, Any], contacted: int) -> dict[str, Any]:
    """Returns what of an answer is true once so many vendors have been e-mailed."""
    parts = {name: answer[name][:contacted] for name in ("vendors", "emails")}
    return {**parts, "emails_sent": contacted}


def _first(prompt: str, words: dict[str, str]) -> str | None:
    """Returns the name whose words a prompt has first."""
    found = {
        name: re.search(rf"\b(?:{pattern})\b", prompt, re.IGNORECASE)
        for name, pattern in words.items()
    }
    places = {name: match.start() for name, match in found.items() if match}
    return min(places, key=places.__getitem__, default=None)


def _response_text(request: Request, vendors: list[Vendor]) -> str:
    known = (
        f"I know {_listed([f'{job}s' for job, _ in SERVICES.values()])} in {_listed(list(CITIES))}."
    )
    if request.service is None:
        return f"I could not tell which service you need. {known}"
    if request.city is None:
        return f"I could not tell which city you need {_people(request.service)} in. {known}"
    if not vendors:
        prices = [
            vendor.price
            for vendor in CATALOGUE
            if (vendor.service, vendor.city) == (request.service, request.city)
        ]
        return (
            f"I found no {SERVICES[request.service][0]} in {request.city} "
            f"within {_dollars(request.budget or 0)}, so I e-mailed nobody. "
            f"The least expensive one there asks {_dollars(min(prices))}."
        )
    cheapest = min(vendors, key=lambda vendor: vendor.price)
    return (
        f"I've contacted {_count(len(vendors), request.service)} in {request.city} by e-mail. "
        f"The best rated is {vendors[0].name} ({vendors[0].rating} of 5) "
        f"at {_dollars(vendors[0].price)}. "
        f"The least expensive is {cheapest.name} at {_dollars(cheapest.price)}."
    )


def _write_email(vendor: Vendor, request: Request) -> dict[str, str]:
    job = SERVICES[vendor.service][0]
    limit = f" The budget is {_dollars(request.budget)}." if request.budget is not None else ""
    return {
        "recipient": vendor.email,
        "subject": f"A homeowner in {vendor.city} is looking for a {job}",
        "body": (
            f"Hello {vendor.name},\n\n"
            f"a homeowner in {vendor.city} is looking for a {job}.{limit}\n"
            "Could you tell us when you have time, and what it would cost?\n\nValro"
        ),
        "timestamp": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _public_vendor(vendor: Vendor) -> dict[str, Any]:
    return {
        "id": vendor.id,
        "name": vendor.name,
        "email": vendor.email,
        "service": vendor.service,
        "city": vendor.city,
        "rating": vendor.rating,
        "price": vendor.price,
    }


def _quote(vendor: Vendor) -> dict[str, Any]:
    # Pages in use read one pair of names or the other: which vendor, and what it asks.
    return {
        "vendor_id": vendor.id,
        "vendor": vendor.name,
        "amount": vendor.price,
        "price": vendor.price,
        "currency": "USD",
    }


def _people(service: str) -> str:
    return f"{SERVICES[service][0]}s"


def _count(number: int, service: str) -> str:
    return f"{number or 'no'} {SERVICES[service][0]}{'' if number == 1 else 's'}"


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _dollars(amount: float) -> str:
    """Writes an amount as people do: $300, but $275.50."""
    return f"${amount:,.0f}" if amount == int(amount) else f"${amount:,.2f}"
