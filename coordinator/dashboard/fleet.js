// The fleet at a glance: who needs somebody, who is at work, who is well.

import { get } from "./api.js";
import { eventList } from "./events.js";
import { h } from "./dom.js";
import { ago, badge, empty, limited, nodeLink, section, sentence, version } from "./parts.js";
import { PHASES, count } from "./words.js";

const ROWS_MAX = 100;
const EVENTS = 10;
const EVENTS_READ = 100;

export const fleetPage = {
    title: () => "Fleet",
    eachSecs: 15,
    async load() {
        const [fleet, events] = await Promise.all([get("/v1/fleet"), get(`/v1/events?newest=${EVENTS_READ}`)]);
        // The steps of each deployment are on the pages of the nodes.
        const told = events.filter(({ event }) => event.what.code !== "phase_changed").slice(-EVENTS);
        return { fleet, events: told, newestEvent: fleet.newest_event };
    },
    render({ fleet, events }, context) {
        if (fleet.nodes.length === 0) return [heading(fleet), nobody(context)];
        const list = h("div", { id: "nodes" }, groups(fleet, context));
        return [heading(fleet), filter(fleet, context), list,
            section("What happened last", null, events.length ? eventList(events, fleet.now, true) : h("p", { class: "hint" }, "Nothing yet."))];
    },
};

function nobody(context) {
    return empty("No node has joined yet.", context.can("operator")
        ? [h("a", { href: "#/enrol" }, "Make an invite"), " and use it on the first board."]
        : "An operator makes an invite, and uses it on the first board.");
}

function heading({ nodes, broker_connected: isHeard }) {
    const online = nodes.filter((node) => node.online).length;
    const needing = nodes.filter((node) => node.attention).length;
    return h("header", { key: "head" }, h("h1", { tabindex: "-1" }, "Fleet"),
        nodes.length > 0 && h("p", { class: "summary" },
            h("span", {}, count(nodes.length, "node")), h("span", {}, `${online} connected`),
            needing ? badge("bad", `${needing} ${needing === 1 ? "needs" : "need"} attention`) : badge("good", "nobody needs attention")),
        !isHeard && h("div", { class: "problem", role: "alert" }, h("p", { class: "title" }, "The coordinator does not reach its broker, so it hears no node."),
            h("p", {}, "What follows is what was last known. The coordinator's log says what failed.")));
}

function filter({ nodes }, context) {
    const labels = [...new Set(nodes.flatMap((node) => Object.entries(node.labels).map((pair) => pair.join("="))))].sort();
    const type = (event) => {
        context.query.set("q", event.currentTarget.value);
        context.render();
    };
    return h("search", { key: "filter", class: "filter" },
        h("label", { for: "filter" }, "Filter"),
        h("input", { id: "filter", type: "search", value: context.query.get("q"), oninput: type, list: "labels", maxlength: 200,
            placeholder: "name, label=value, app, version, offline …", autocomplete: "off", spellcheck: "false" }),
        h("datalist", { id: "labels" }, labels.slice(0, 200).map((label) => h("option", { value: label }))));
}

const isBusy = (node) => !node.revoked && node.apps.some((app) => !app.settled);

/** All that a node can be found by. */
function found(node) {
    const apps = node.apps.flatMap((app) => [app.app, `${app.app}@${app.current ?? ""}`, app.current, app.phase, PHASES[app.phase]]);
    const states = [node.online ? "online" : "offline", node.held && "held", node.revoked && "revoked", isBusy(node) && "busy", node.attention?.code];
    const labels = Object.entries(node.labels).flatMap(([name, value]) => [`${name}=${value}`]);
    return [node.node, ...labels, ...apps, ...states].filter(Boolean).join("\n").toLowerCase();
}

function groups({ nodes, now }, context) {
    const words = context.query.get("q").toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = nodes.filter((node) => {
        const text = words.length ? found(node) : "";
        return words.every((word) => text.includes(word));
    });
    if (chosen.length === 0) {
        const all = () => {
            context.query.set("q", "");
            document.getElementById("filter").value = "";
            context.render();
        };
        return [empty(`None of ${count(nodes.length, "node")} is like that.`, h("button", { type: "button", class: "plain", onclick: all }, "Show all"))];
    }
    const left = new Set(chosen);
    const take = (is) => chosen.filter((node) => left.has(node) && is(node) && left.delete(node));
    const group = (title, is) => {
        const members = take(is);
        if (members.length === 0) return null;
        const open = () => context.open(`fleet-${title}`);
        const [shown, rest] = limited(members, ROWS_MAX, context.isOpen(`fleet-${title}`), open);
        return section(title, members.length, h("ul", { class: "nodes" }, shown.map((node) => row(node, now, context))), rest);
    };
    return [
        group("Needs attention", (node) => node.attention),
        group("At work", isBusy),
        group("Revoked", (node) => node.revoked),
        group("Well", () => true),
    ].toSorted((one, other) => (one?.key === "Revoked") - (other?.key === "Revoked"));
}

function row(node, now, context) {
    return h("li", { key: node.node, class: node.attention ? "attention" : null },
        h("div", { class: "who" }, nodeLink(node.node), presence(node, now)),
        h("div", { class: "apps" }, node.apps.length ? node.apps.map((app) => chip(app)) : h("span", { class: "hint" }, "no apps yet")),
        labels(node, context),
        node.attention && h("p", { class: "why" }, badge("bad", node.attention.code.replaceAll("_", " ")), " ", sentence(node.attention.text)));
}

export function presence(node, now) {
    if (node.revoked) return badge("quiet", "revoked");
    return [node.online ? badge("good", "connected") : badge("bad", "not connected"),
        !node.online && h("span", { class: "hint" }, node.seen_at ? ["last heard ", ago(now, node.seen_at)] : "never heard"),
        (node.held || node.holds?.length > 0) && badge("warn", "held")];
}

/** How an app is, and in few words. */
export function doing(app) {
    if (app.refused) return ["bad", app.settled ? "refused" : "refused, going back"];
    if (app.healthy === false) return ["bad", "probes fail"];
    if (app.settled) return ["good", "at rest"];
    return ["busy", app.phase && app.phase !== "settled" ? PHASES[app.phase] ?? app.phase : "told"];
}

function chip(app) {
    return h("span", { class: "chip", key: app.app },
        h("span", {}, app.app, " ", app.current ? version(app.current) : h("span", { class: "hint" }, "nothing")),
        app.desired !== app.current && h("span", { class: "then" }, "→ ", version(app.desired ?? "stopped")), badge(...doing(app)));
}

function labels(node, context) {
    const pairs = Object.entries(node.labels);
    if (pairs.length === 0) return null;
    const choose = (label) => () => {
        context.query.set("q", label);
        document.getElementById("filter").value = label;
        context.render();
    };
    return h("div", { class: "labels" }, pairs.map(([name, value]) => h("button", {
        type: "button", class: "label", onclick: choose(`${name}=${value}`), title: "Show nodes with this label",
    }, `${name}=${value}`)));
}
