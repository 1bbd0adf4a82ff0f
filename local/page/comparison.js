// What an agent found, as one table: each vendor with its quotes, the least expensive first. Any
// field may be absent, and most may be anything that JSON can hold.

import { make, makeLink, makeText, setTime } from "./dom.js";
import { asMoney, asText, count, firstOf, moment } from "./words.js";

const PRICES = ["price", "amount", "cost", "estimate"];
const SITES = ["website", "url", "link"];
// What has a place of its own in the table, or tells a person nothing.
const SHOWN = new Set([
  ...PRICES, ...SITES, "id", "vendor_id", "vendor", "currency", "name", "rating", "email", "phone", "emails",
]);

/** The table, a group of rows for each vendor; null if there is nothing to show. */
export function makeTable(vendors, quotes) {
  const offers = offersOf(vendors, quotes);
  if (!offers.length) return null;
  const currencies = new Set(offers.filter(({ price }) => price !== undefined).map(({ currency }) => currency));
  const isComparable = currencies.size === 1;
  if (isComparable) offers.sort((a, b) => (a.price ?? Infinity) - (b.price ?? Infinity));
  const lowest = isComparable ? standout(offers.map(({ price }) => price), Math.min) : undefined;
  const best = standout(offers.map(({ rating }) => rating), Math.max);
  const heads = [make("th", "Vendor"), make("th", "Rating"), make("th.number", "Price")];
  for (const head of heads) head.scope = "col";
  return withRoles(make("table.vendors", make("thead", make("tr", ...heads)), ...offers.map((offer) => makeGroup(offer, {
    isLowest: lowest !== undefined && offer.price === lowest,
    isBest: best !== undefined && offer.rating === best,
  }))));
}

/** The least or greatest of some numbers; undefined if that says nothing. */
function standout(values, choose) {
  const numbers = values.filter((value) => value !== undefined);
  return new Set(numbers).size > 1 ? choose(...numbers) : undefined;
}

/** Each vendor with the quotes that name it, and quotes whose vendor is not known otherwise. */
function offersOf(vendors, quotes) {
  const offers = vendors.map((vendor) => ({ vendor, quotes: [] }));
  for (const quote of quotes) {
    let offer = offers.find(({ vendor }) => isOf(quote, vendor));
    if (!offer) {
      offer = { vendor: { id: quote.vendor_id, name: firstOf(quote.vendor, quote.vendor_id), emails: [] }, quotes: [] };
      offers.push(offer);
    }
    offer.quotes.push(quote);
  }
  return offers.map(({ vendor, quotes: own }) => {
    const priced = own.map((quote) => asNumber(priceOf(quote))).filter((price) => price !== undefined);
    return {
      vendor,
      quotes: own,
      price: priced.length ? Math.min(...priced) : asNumber(priceOf(vendor)),
      currency: firstOf(...own.map((quote) => quote.currency), vendor.currency) ?? "USD",
      rating: asNumber(vendor.rating),
    };
  });
}

/** A quote names its vendor by `vendor_id`, or by `vendor`, its name. */
function isOf(quote, vendor) {
  const id = firstOf(quote.vendor_id);
  if (id !== undefined && id === vendor.id) return true;
  const name = firstOf(quote.vendor);
  return name !== undefined && name === vendor.name;
}

const priceOf = (fields) => firstOf(...PRICES.map((key) => fields[key]));

/** A number, also one that an agent sent as a text. */
function asNumber(value) {
  const number = typeof value === "string" && value.trim() ? Number(value.replace(/^\$/, "").replaceAll(",", "")) : value;
  return Number.isFinite(number) ? number : undefined;
}

function makeGroup(offer, { isLowest, isBest }) {
  const { vendor } = offer;
  const name = makeText("span.name", vendor.name || "Unnamed vendor");
  const head = make("th", name);
  if (isLowest) head.append(" ", make("span.badge", "Lowest price"));
  if (isBest) head.append(" ", make("span.badge", "Best rated"));
  head.scope = "row";
  head.append(...contactsOf(vendor));
  const rating = offer.rating === undefined ? asText(firstOf(vendor.rating) ?? "") : `★ ${asText(offer.rating)}`;
  const row = make("tr", head, make("td.rating", rating), make("td.price.number", ...pricesOf(offer)));
  const more = moreOf(vendor);
  if (!more.length) return make("tbody", row);
  const cell = make("td.more", ...more);
  cell.colSpan = 3;
  return make("tbody", row, make("tr", cell));
}

const ROLES = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };

/** Rows that stack on a phone would otherwise be no table any more for screen readers. */
function withRoles(table) {
  for (const element of [table, ...table.querySelectorAll("thead, tbody, tr, th, td")]) {
    element.setAttribute("role", ROLES[element.tagName] ?? { col: "columnheader", row: "rowheader" }[element.scope]);
  }
  return table;
}

function pricesOf({ vendor, quotes, currency }) {
  if (!quotes.length) return [make("span.amount", asMoney(numeric(priceOf(vendor)), currency))];
  return quotes.map((quote) => {
    const price = asMoney(numeric(priceOf(quote)), firstOf(quote.currency) ?? currency);
    const details = factsOf(quote).map(([key, value]) => (key === "text" ? asText(value) : `${labelOf(key)}: ${asText(value)}`));
    const line = make("div", make("span.amount", price));
    if (details.length) line.append(makeText("span.details.muted", details.join(", ")));
    return line;
  });
}

const numeric = (value) => asNumber(value) ?? value;

const labelOf = (key) => key.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

/** The fields that say something and are not shown elsewhere, as [key, value]. */
function factsOf(fields) {
  return Object.entries(fields).filter(([key, value]) => firstOf(value) !== undefined && !SHOWN.has(key));
}

function contactsOf(vendor) {
  const links = [
    [firstOf(vendor.email), (email) => `mailto:${email}`],
    // Only what is a number as a whole: an extension would become a part of it.
    [firstOf(vendor.phone), (phone) => (/^[\d\s().+-]+$/.test(phone) ? `tel:${phone.replace(/[^\d+]/g, "")}` : "")],
    [firstOf(...SITES.map((key) => vendor[key])), (address) => address, (address) => address.replace(/^https:\/\/|\/$/g, "")],
  ];
  const shown = links.filter(([value]) => value !== undefined)
    .map(([value, address, label = asText]) => makeLink(address(asText(value)), label(asText(value))));
  return shown.length ? [make("div.contacts", ...shown)] : [];
}

function moreOf({ emails, ...fields }) {
  const facts = factsOf(fields);
  const more = [];
  if (facts.length) {
    more.push(make("dl.facts", ...facts.map(([key, value]) => (
      make("div", make("dt", labelOf(key)), makeText("dd", makeLink(asText(value), asText(value))))))));
  }
  if (emails.length) {
    more.push(make("details", make("summary", `${count(emails.length, "e-mail")} sent`), ...emails.map(makeEmail)));
  }
  return more;
}

function makeEmail({ subject, recipient, body = "", timestamp }) {
  const to = make("p.muted", `To ${recipient || "an unknown address"}`);
  if (!Number.isNaN(new Date(timestamp).getTime())) to.append(" · ", setTime(make("time"), timestamp, moment(timestamp)));
  return make("div.email",
    makeText("p", make("strong", subject || "(no subject)")), to, makeText("p.text", body));
}
