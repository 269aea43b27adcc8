// One node: what it runs and why, how it was, what happened, and holds.

import { get, post } from "./api.js";
import { chart } from "./chart.js";
import { confirm } from "./confirm.js";
import { h } from "./dom.js";
import { eventList } from "./events.js";
import { doing, presence } from "./fleet.js";
import { ago, at, badge, empty, facts, section, sentence, version } from "./parts.js";
import { nowSecs, span } from "./words.js";

const EVENTS = 60;

export const nodePage = {
    title: ([node]) => node,
    eachSecs: 15,
    async load([name]) {
        const path = `/v1/nodes/${encodeURIComponent(name)}`;
        const events = get(`/v1/events?newest=${EVENTS}&node=${encodeURIComponent(name)}`);
        const all = [get(path), get(`${path}/why`), get(`${path}/health`), events];
        const [node, why, health, happened] = await Promise.all(all);
        return { node, why, health, events: happened, newestEvent: happened.at(-1)?.id };
    },
    render({ node, why, health, events }, context) {
        const now = nowSecs();
        return [
            h("header", { key: "head" }, h("h1", { tabindex: "-1" }, node.node),
                h("p", { class: "summary" }, presence(node, now), node.online && node.seen_at && h("span", {}, "heard ", ago(now, node.seen_at))),
                about(node)),
            section("Why it is where it is", null, answers(why)),
            section("Apps", null, apps(node, events, now)),
            section("Holds", null, holds(node, now, context)),
            section("Health over the last day", null, charts(health, now)),
            section("What happened here", null, events.length ? eventList(events, now, false)
                : h("p", { class: "hint" }, "Nothing that the coordinator has stored.")),
        ];
    },
};

function about({ reported, joined_at: joined }) {
    const labels = Object.entries(reported?.labels ?? {}).map(([name, value]) => h("span", { class: "label" }, `${name}=${value}`));
    return facts(["Joined", at(joined)], ["Platform", reported?.platform], ["Board", reported?.board], ["Agent", reported?.agent_version],
        ["Labels", labels.length ? labels : null],
        ["Trusts", reported ? `root ${reported.trust.root}, targets ${reported.trust.targets}${reported.trust.stale ? ", expired" : ""}` : null]);
}

const CALM = new Set(["up_to_date", "nothing_desired"]);
const UNDER_WAY = new Set(["in_progress", "not_taken_in", "held", "in_rollout"]);

function answers({ lines }) {
    const kind = (line) => (CALM.has(line.code) ? "good" : UNDER_WAY.has(line.code) ? "busy" : "bad");
    return h("ul", { class: "answers" }, lines.map((line) => h("li", {},
        badge(kind(line), line.code.replaceAll("_", " ")), h("span", { class: "text" }, sentence(line.text)), evidence(line.evidence))));
}

/** What the node saw of a release that it refused. */
function evidence(seen) {
    if (!seen) return null;
    const probe = ({ probe: asked, good, bad, last }) => h("li", {}, h("code", {}, asked), ` ${good} good, ${bad} bad; last: `,
        last?.length ? last.join("; then ") : "no answer yet");
    return h("details", {}, h("summary", {}, "What the node saw of it"),
        seen.exit && h("p", {}, `It ended: ${seen.exit}`),
        seen.probes?.length > 0 && h("ul", {}, seen.probes.map(probe)),
        seen.log?.length > 0 && [h("p", {}, "Its last words:"), h("pre", { tabindex: "0" }, seen.log.join("\n"))]);
}

function apps(node, events, now) {
    const names = [...new Set([...node.desired.map(({ app }) => app), ...(node.reported?.apps ?? []).map(({ app }) => app)])].sort();
    if (names.length === 0) return empty("It was not told to run anything yet.", "In a terminal: ", h("code", {}, `orangery deploy APP@VERSION --to ${node.node}`));
    return h("div", { class: "cards" }, names.map((name) => card(node, name, events, now)));
}

function card(node, name, events) {
    const desired = node.desired.find(({ app }) => app === name);
    const report = node.reported?.apps.find(({ app }) => app === name);
    const told = desired ? desired.version ?? "stopped" : "nothing";
    const settled = report?.phase === "settled" && report.generation >= (desired?.generation ?? 0);
    const refused = report?.refusal && report.refusal.release === desired?.release;
    const running = report?.running && report.running.id !== report.current?.id ? report.running.version : null;
    return h("article", { class: "card", key: name },
        h("h3", {}, name, " ", badge(...doing({ refused, settled, healthy: report?.healthy, phase: report?.phase }))),
        facts(
            ["Current", report?.current ? version(report.current.version) : "nothing proven yet"],
            ["Desired", [version(told), desired && h("span", { class: "hint" }, ` generation ${desired.generation}`)]],
            ["On trial", running ? version(running) : null],
            ["Previous", previous(name, report, events)],
            ["Probes", { true: badge("good", "hold"), false: badge("bad", "fail") }[report?.healthy] ?? badge("quiet", "nobody knows yet")],
            ["Waits", report?.waits],
            ["Revoked", report?.revoked ? badge("bad", "the owner has taken the current release back") : null],
            ["Refused", refused ? badge("bad", report.refusal.code.replaceAll("_", " ")) : null]));
}

/** What was proven here before the current release, as far as the events that are shown reach. */
function previous(name, report, events) {
    const proven = events.map(({ event }) => event).filter(({ app, what }) => app === name && what.code === "committed" && what.release);
    const before = proven.map(({ what }) => what.release).filter((release) => release.id !== report?.current?.id).at(-1);
    return before ? version(before.version) : null;
}

const LASTS = [["3600", "1 hour"], ["28800", "8 hours"], ["86400", "1 day"], ["604800", "1 week"], ["", "until somebody releases it"]];

function holds(node, now, context) {
    const path = `/v1/nodes/${encodeURIComponent(node.node)}`;
    const may = context.can("operator") && !node.revoked;
    const shown = (node.holds ?? []).map((hold) => h("li", { key: `hold-${hold.app ?? ""}` },
        badge("warn", hold.app ? `${hold.app} is pinned` : "held"),
        h("span", { class: "text" }, `by ${hold.deed.by}, `, ago(now, hold.deed.at), `: ${hold.deed.note ?? "no reason given"}`,
            hold.expires_at ? [". Ends ", ago(now, hold.expires_at)] : ". Has no end"),
        may && h("button", { type: "button", class: "plain", onclick: () => release(hold) }, "Release")));
    function release(hold) {
        const what = hold.app ? `${hold.app} on ${node.node}` : node.node;
        confirm({
            title: `Release ${what}?`, verb: "Release",
            says: h("p", {}, `${what} takes part in deployments and rollouts again, at once: what waits for it is told to it.`),
            act: () => post(`${path}/release`, { app: hold.app ?? null }).then(() => context.done(`${what} is not held any more.`)),
        });
    }
    function hold() {
        const names = node.desired.map(({ app }) => app);
        confirm({
            title: `Hold ${node.node}?`, verb: "Hold",
            says: h("p", {}, `${node.node} is told nothing new until the hold ends; what runs there goes on running. Rollouts go on without it.`),
            fields: [
                { name: "note", label: "Why", needed: true },
                { name: "expires", label: "For how long", options: LASTS },
                names.length > 0 && { name: "app", label: "What", options: [["", "the whole node"], ...names.map((app) => [app, `${app} alone`])] },
            ].filter(Boolean),
            act: ({ note, expires, app }) => post(`${path}/hold`, { app: app || null, expires_secs: expires ? Number(expires) : null, deed: { note } })
                .then(() => context.done(`${node.node} is held.`)),
        });
    }
    return [shown.length ? h("ul", { class: "answers" }, shown) : h("p", { class: "hint" }, "None: deployments and rollouts reach it."),
        may && h("button", { type: "button", class: "plain", onclick: hold }, "Hold …")];
}

function charts({ points, point_secs: pointSecs }, now) {
    if (points.length === 0) return h("p", { class: "hint" }, "Not heard since the coordinator started. The first point comes with the node's next sign of life.");
    const of = (name, scale = 1) => points.map((point) => ({ at: point.at, value: point[name] === undefined || point[name] === null ? null : point[name] / scale }));
    const percent = (value) => `${Math.round(value)} %`;
    const common = { pointSecs, now };
    return [h("div", { class: "charts" },
        chart({ ...common, label: "Load", points: of("load_1m"), top: 1, write: (value) => value.toFixed(2) }),
        chart({ ...common, label: "Memory in use", points: of("memory_permille", 10), top: 100, write: percent }),
        chart({ ...common, label: "Disk in use", points: of("disk_permille", 10), top: 100, write: percent }),
        chart({ ...common, label: "Temperature", points: of("temperature_celsius"), top: 60, write: (value) => `${Math.round(value)} °C` })),
    h("p", { class: "hint" }, `Each point is the worst of ${span(pointSecs)}. The coordinator keeps a day, since its own start.`)];
}
