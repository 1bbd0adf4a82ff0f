// Markdown as agents write it, as elements. Only the parser's tokens are used: whatever is none of
// those below, HTML above all, is shown as the text that it is.
//
// marked.esm.js and marked.LICENSE are those of npm's marked 18.2.1, as they are.

import { make, makeLink, makeText } from "./dom.js";
import { Lexer } from "./marked.esm.js";

// Longer texts and paragraphs are shown as they were written: a few kilobytes of "[*a " would keep
// the parser, and with it the page, busy for seconds.
const MAX_CHARACTERS = 60_000;
const MAX_PARAGRAPH_CHARACTERS = 3_000;
const OPTIONS = { gfm: true, breaks: true }; // a line that ends is a line that ends

/** The elements of a text; its highest heading is one of `level`, by default below an h3. */
export function makeMarkdown(text, level = 4) {
  if (text.length <= MAX_CHARACTERS) {
    try {
      return new Blocks(level).make(new BoundedLexer(OPTIONS).lex(text));
    } catch { // nested too deeply, say: no text is worth an empty page
    }
  }
  return [makeText("p.text", text)];
}

class BoundedLexer extends Lexer {
  inlineTokens(source, tokens = []) {
    if (source.length <= MAX_PARAGRAPH_CHARACTERS) return super.inlineTokens(source, tokens);
    tokens.push({ type: "text", raw: source, text: source });
    return tokens;
  }
}

class Blocks {
  depths = []; // of headings, as the text has them: an agent may begin with any

  constructor(level) {
    this.highest = level;
    this.level = level - 1;
  }

  make(tokens) {
    this.depths = [...new Set(tokens.filter(({ type }) => type === "heading").map(({ depth }) => depth))].sort();
    return tokens.flatMap((token) => this.block(token));
  }

  block(token) {
    switch (token.type) {
      case "space":
      case "def":
        return [];
      case "heading":
        return [this.heading(token)];
      case "paragraph":
        return [makeText("p", ...inline(token.tokens))];
      case "text": // of a list's item
        return token.tokens ? inline(token.tokens) : [token.raw];
      case "checkbox":
        return [token.checked ? "☑ " : "☐ "];
      case "blockquote":
        return [make("blockquote", ...token.tokens.flatMap((each) => this.block(each)))];
      case "list":
        return [this.list(token)];
      case "code":
        return [makeText("pre", make("code", token.text))];
      case "hr":
        return [make("hr")];
      case "table":
        return [this.table(token)];
      default:
        return [makeText("p.text", token.raw.trim())];
    }
  }

  heading({ depth, tokens }) {
    // No level is left out on the way down, which screen readers would stumble over.
    this.level = Math.min(this.highest + this.depths.indexOf(depth), this.level + 1, 6);
    return makeText(`h${this.level}`, ...inline(tokens));
  }

  list({ ordered, start, items }) {
    const list = make(ordered ? "ol" : "ul",
      ...items.map((item) => makeText("li", ...item.tokens.flatMap((token) => this.block(token)))));
    if (ordered && start !== 1) list.start = start;
    return list;
  }

  table({ header, rows }) {
    const cell = (name) => ({ tokens, align }) => {
      const element = makeText(`${name}${align === "right" ? ".number" : ""}`, ...inline(tokens));
      if (name === "th") element.scope = "col";
      return element;
    };
    const table = make("table",
      make("thead", make("tr", ...header.map(cell("th")))),
      make("tbody", ...rows.map((row) => make("tr", ...row.map(cell("td"))))));
    const frame = make("div.scroll", table);
    frame.tabIndex = 0; // so that it can be scrolled without a mouse
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Table");
    return frame;
  }
}

const SPANS = { strong: "strong", em: "em", del: "del" };

/** What stands in a line. */
function inline(tokens) {
  return tokens.map((token) => {
    switch (token.type) {
      case "strong":
      case "em":
      case "del":
        return make(SPANS[token.type], ...inline(token.tokens));
      case "codespan":
        return make("code", token.text);
      case "br":
        return make("br");
      case "link":
        return makeLink(token.href, ...inline(token.tokens));
      case "image": // nothing is loaded from elsewhere
        return makeLink(token.href, token.text || token.href);
      case "escape":
        return token.text;
      case "html":
        return /^<br *\/?>$/i.test(token.raw) ? make("br") : token.raw;
      case "text":
        return token.tokens ? make("span", ...inline(token.tokens)) : characters(token.text);
      default:
        return token.raw;
    }
  });
}

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Text with the few entities that agents write; the parser leaves them to HTML. */
function characters(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w+));/gi, (whole, decimal, hex, name) => {
    if (name) return ENTITIES[name] ?? whole;
    const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
