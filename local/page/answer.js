// What an agent found: vendors and quotes. Any field may be absent or anything that JSON can hold.

import { make, setTime } from "./dom.js";
import { asMoney, asText, count, dayAndClock, firstOf } from "./words.js";

const PRICES = new Set(["price", "amount", "cost", "estimate"]);
// Beside those that are shown elsewhere: what programs know a vendor by.
const UNSHOWN = new Set(["id", "vendor_id", "currency"]);

const labelOf = (key) => key.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

/** The fields that say something, as [key, value]. */
function saying(fields) {
  return Object.entries(fields).filter(([key, value]) => firstOf(value) !== undefined && !UNSHOWN.has(key));
}

export function makeVendor({ name, emails, ...facts }, quotes) {
  const currency = facts.currency ?? quotes.find((quote) => typeof quote?.currency === "string")?.currency;
  const list = make("dl.facts");
  for (const [key, value] of saying(facts)) {
    const isStars = key === "rating" && typeof value === "number";
    const text = PRICES.has(key) ? asMoney(value, currency) : asText(value);
    list.append(make("dt", labelOf(key)), make("dd", (isStars ? "★ " : "") + text));
  }
  const card = make("li", make("h4", firstOf(name) === undefined ? "A vendor without a name" : asText(name)), list);
  if (emails.length) {
    const details = make("details", make("summary", `${count(emails.length, "e-mail")} sent`));
    details.append(...emails.map(makeEmail));
    card.append(details);
  }
  return card;
}

function makeEmail(email) {
  if (typeof email !== "object" || !email) return make("p.email.text", asText(email));
  const head = make("p", make("strong", asText(email.subject ?? "(no subject)")));
  const to = make("p.muted", `To ${asText(email.recipient ?? "?")}`);
  const moment = new Date(email.timestamp);
  if (!Number.isNaN(moment.getTime())) to.append(", ", setTime(make("time"), email.timestamp, dayAndClock(email.timestamp)));
  return make("div.email", head, to, make("p.text", asText(email.body ?? "")));
}

/** A quote names its vendor by `vendor` or by `vendor_id`, and its price `price` or `amount`. */
export function makeQuote({ vendor, vendor_id, price, amount, currency, ...others }, vendors) {
  const byId = vendors.find(({ id }) => id !== undefined && id === vendor_id)?.name;
  const details = saying(others)
    .map(([key, value]) => (key === "text" ? asText(value) : `${labelOf(key)}: ${asText(value)}`));
  return make("tr",
    make("td", asText(firstOf(vendor, byId, vendor_id) ?? "")),
    make("td.details.muted", details.join(", ")),
    make("td.number", asMoney(firstOf(price, amount), currency ?? undefined)));
}
