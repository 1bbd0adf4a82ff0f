"""What all agents say, whatever framework they are made with."""

import re

SEARCHING = "Let me look for landscapers."
ANSWER = "I've e-mailed Green Fern and Dogwood Care. Both can come on Friday."
FOUND = "Green Fern and Dogwood Care work in Charlotte."
EARLIER = "Lone Brush painted your fence."  # of an earlier task in the same session
QUESTION = "May I book Green Fern for $240?"
FINDING = ("find_vendors", {"city": "Charlotte"})
BOOK = ("book", {"vendor": "Green Fern"})


def pieces(text: str) -> list[str]:
    """A text as models stream it, in a few pieces."""
    return re.findall(r"\s*\S+(?:\s+\S+)?", text)
