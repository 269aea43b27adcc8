// What was done, by whom: the newest entries of the audit log.

import { get } from "./api.js";
import { h } from "./dom.js";
import { ago, badge, empty } from "./parts.js";
import { nowSecs } from "./words.js";

const FEW = 50;
const MANY = 500;

export const auditPage = {
    title: () => "Audit",
    eachSecs: 30,
    least: "admin",
    load: async (_, context) => ({ page: await get(`/v1/audit?newest=${context.isOpen("audit") ? MANY : FEW}`) }),
    render({ page }, context) {
        const now = nowSecs();
        const lines = page.entries.map(read).reverse();
        const more = lines.length >= FEW && !context.isOpen("audit");
        const open = () => {
            context.open("audit");
            context.refresh();
        };
        return [
            h("header", { key: "head" }, h("h1", { tabindex: "-1" }, "Audit"),
                h("p", { class: "hint" }, "The newest entries, the newest first. Whether nobody has changed the log: ", h("code", {}, "orangery audit verify"), ".")),
            lines.length ? h("ol", { class: "events audit", key: "log" }, lines.map((entry) => row(entry, now))) : empty("Nothing was done yet.", "Every deed of a person leaves an entry here."),
            more && h("button", { type: "button", class: "plain", onclick: open }, `Show the newest ${MANY}`),
        ];
    },
};

/** An entry is a text of which the log keeps a digest; one that somebody has changed may be anything. */
function read({ sequence, entry }) {
    try {
        return { ...JSON.parse(entry), sequence };
    } catch {
        return { sequence, deed: "unreadable", who: "?", object: entry, outcome: "this entry was changed", detail: {}, at: 0 };
    }
}

function row(entry, now) {
    const detail = Object.entries(entry.detail ?? {}).map(([name, value]) => `${name}: ${value}`).join(" · ");
    const isDone = entry.outcome === "done";
    return h("li", { key: `a${entry.sequence}` }, badge(isDone ? "good" : "bad", isDone ? "done" : String(entry.outcome).replaceAll("_", " ")),
        h("span", { class: "text" }, h("strong", {}, String(entry.who)), ` ${entry.deed} `, String(entry.object),
            detail && h("span", { class: "hint detail" }, detail),
            entry.from && h("span", { class: "hint detail" }, `from ${entry.from}${entry.token ? `, token ${entry.token}` : ""}`)),
        ago(now, entry.at));
}
