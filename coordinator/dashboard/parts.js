// What several pages are made of.

import { h } from "./dom.js";
import { clock, distance, iso, moment } from "./words.js";

/** A mark beside each colour: nobody has to tell colours apart. */
const MARKS = { good: "✓", warn: "!", bad: "✕", busy: "…", quiet: "–" };

export const badge = (kind, text, title) =>
    h("span", { class: `badge ${kind}`, title }, h("span", { class: "mark", "aria-hidden": "true" }, MARKS[kind]), text);

/** A time as a distance, with the date and time for whoever points at it. */
export const ago = (now, then) => h("time", { datetime: iso(then), title: moment(then) }, distance(now, then));

export const at = (then) => h("time", { datetime: iso(then) }, moment(then));

export const nodeLink = (node) => h("a", { href: `#/node/${encodeURIComponent(node)}` }, node);
export const rolloutLink = (id, text) => h("a", { href: `#/rollout/${id}` }, text ?? `rollout ${id}`);

/** A page that has nothing to show says what to do next. */
export const empty = (title, ...next) => h("div", { class: "empty" }, h("p", { class: "title" }, title), h("p", {}, ...next));

/** Something was not done: what, why and what helps. */
export function problem(error, since) {
    return h("div", { class: "problem", role: "alert" },
        h("p", { class: "title" }, sentence(error.message)),
        error.next && h("p", {}, sentence(error.next)),
        since && h("p", {}, `What is shown here is from ${clock(since)}.`),
        error.code && h("p", { class: "small" }, "Code: ", h("code", {}, error.code)));
}

/** A heading with how many there are below it. */
export const section = (title, number, ...content) =>
    h("section", { key: title }, h("h2", {}, title, number !== null && h("span", { class: "number" }, String(number))), ...content);

/** Names and values. Values that are null are left out. */
export const facts = (...pairs) => h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

/** A sentence in which commands stand between backquotes. */
export const sentence = (text) => text.split("`").map((part, k) => (k % 2 ? h("code", {}, part) : part));

export const version = (text) => h("span", { class: "version" }, text);

/** A text with a button that copies it. */
export function copyable(text, label, say) {
    const copy = async () => {
        try {
            await navigator.clipboard.writeText(text);
            say(`${label} copied.`);
        } catch {
            say(`Your browser did not allow it: mark the text and copy it by hand.`);
        }
    };
    return h("div", { class: "copyable" }, h("code", { tabindex: "0" }, text),
        h("button", { type: "button", class: "plain", onclick: copy, "aria-label": `Copy ${label.toLowerCase()}` }, "Copy"));
}

/** The first `most` of many, and a button for the rest. */
export function limited(items, most, isOpen, open) {
    if (items.length <= most || isOpen) return [items, null];
    const rest = h("button", { type: "button", class: "plain", onclick: open }, `Show ${items.length - most} more`);
    return [items.slice(0, most), rest];
}
