// One rollout: its waves and gates, where each node is and why, and what can be done with it now.

import { get, post } from "./api.js";
import { confirm } from "./confirm.js";
import { h } from "./dom.js";
import { ago, badge, limited, nodeLink, section, sentence, version } from "./parts.js";
import { progress, statusBadge } from "./rollouts.js";
import { PLACES, count, named, nowSecs, span } from "./words.js";

const NODES_MAX = 60;
const TOLD = new Set(["not_taken_in", "in_progress", "soaking", "overdue", "failed", "soaked"]);

export const rolloutPage = {
    title: ([id]) => `Rollout ${id}`,
    eachSecs: 4,
    load: async ([id]) => ({ rollout: await get(`/v1/rollouts/${encodeURIComponent(id)}`) }),
    render({ rollout }, context) {
        const now = nowSecs();
        return [
            h("header", { key: "head" },
                h("h1", { tabindex: "-1" }, `Rollout ${rollout.rollout}: ${rollout.app} `, version(rollout.version)),
                h("p", { class: "summary" }, statusBadge(rollout.status), progress(rollout)),
                h("p", { class: `reason ${rollout.status}` }, sentence(rollout.reason)),
                h("p", { class: "hint" }, `Begun by ${rollout.begun.by} `, ago(now, rollout.begun.at), rollout.begun.note ? `: ${rollout.begun.note}` : "",
                    `. When too many nodes fail it ${rollout.on_failure === "revert" ? "goes back by itself" : "pauses"}.`),
                rollout.ignores_windows && h("p", { class: "hint" }, `Maintenance windows are ignored, says ${rollout.ignores_windows.by} `, ago(now, rollout.ignores_windows.at), rollout.ignores_windows.note ? `: ${rollout.ignores_windows.note}` : "", "."),
                context.can("operator") && buttons(rollout, context)),
            h("div", { key: "waves", class: "waves" }, rollout.waves.map((wave) => waveSection(wave, rollout, now, context))),
            section("What happened", null, log(rollout, now)),
        ];
    },
};

const allNodes = (rollout) => rollout.waves.flatMap((wave) => wave.nodes);
const names = (nodes) => named(nodes.map(({ node }) => node), 8);

/** The deeds that make sense where the rollout is, each with what it will do. */
function deeds(rollout) {
    const { app, version: number, status } = rollout;
    const release = `${app} ${number}`;
    const next = rollout.waves.find((wave) => wave.opened_at === null || wave.opened_at === undefined);
    const told = allNodes(rollout).filter(({ state, generation }) => generation !== null && TOLD.has(state));
    const failed = allNodes(rollout).filter(({ state }) => state === "failed" || state === "overdue");
    const shut = allNodes(rollout).filter(({ state }) => state === "window" || state === "away");
    const wave = next && `wave ${next.wave} (${count(next.nodes.length, "node")}: ${names(next.nodes)})`;
    const back = told.map(({ node, earlier }) => `${node} to ${earlier ?? "nothing: it is stopped there"}`);
    const isOpen = status === "running" || status === "paused";
    return [
        isOpen && next?.approve && !next.approved && {
            deed: "approve", verb: "Approve", title: `Approve wave ${next.wave}?`,
            says: [`${wave} may be told to run ${release}.`, status === "paused" ? "Not before the rollout is resumed."
                : "It opens as soon as the wave ahead of it has passed; at once if it has."],
        },
        status === "running" && next && {
            deed: "promote", verb: "Promote", title: `Open wave ${next.wave} now?`, grave: true,
            says: [`${wave} is told now to run ${release}, whatever it waits for: the soak of the wave ahead, its failures, an approval.`],
        },
        status === "running" && {
            deed: "pause", verb: "Pause", title: `Pause rollout ${rollout.rollout}?`,
            says: ["Nobody else is told to run it until somebody resumes it.",
                told.length ? `${count(told.length, "node")} that ${told.length === 1 ? "was" : "were"} told already (${names(told)}) go on as they are.` : "Nobody was told yet."],
        },
        status === "paused" && {
            deed: "resume", verb: "Resume", title: `Resume rollout ${rollout.rollout}?`,
            says: [failed.length ? `It goes on in spite of ${count(failed.length, "failure")} (${names(failed)}): they do not count any more.` : "It goes on where it was.",
                next ? `${wave} is next.` : "All waves are open."],
        },
        isOpen && !rollout.ignores_windows && shut.length > 0 && {
            deed: "ignore-windows", verb: "Ignore windows", title: "Tell nodes outside of their maintenance windows?", grave: true,
            says: [`${count(shut.length, "node")} (${names(shut)}) ${shut.length === 1 ? "waits" : "wait"} for a maintenance window. From now on this rollout looks at none.`],
        },
        (isOpen || status === "done") && told.length > 0 && {
            deed: "revert", verb: "Revert", title: `Take ${release} back?`, grave: true,
            says: [`${count(told.length, "node")} ${told.length === 1 ? "is" : "are"} told to run again what was proven there before: ${named(back, 8)}.`, "Nobody else is told to run it. This ends the rollout."],
        },
    ].filter(Boolean);
}

function buttons(rollout, context) {
    const possible = deeds(rollout);
    if (possible.length === 0) return null;
    const does = ({ deed, verb, title, says, grave }) => () => confirm({
        title, verb, grave,
        says: says.map((text) => h("p", {}, text)),
        fields: [{ name: "note", label: "Why (kept in its history)" }],
        act: ({ note }) => post(`/v1/rollouts/${rollout.rollout}/${deed}`, note ? { note } : {}).then(() => context.done(`Rollout ${rollout.rollout}: ${deed} is done.`)),
    });
    return h("div", { class: "buttons", role: "group", "aria-label": "What can be done" }, possible.map((deed) => h("button", {
        type: "button", key: deed.deed, class: deed.grave ? "grave" : deed.deed === "approve" ? "primary" : "plain", onclick: does(deed),
    }, `${deed.verb} …`)));
}

function gate(wave, rollout, now) {
    const isFirst = wave.wave === 1;
    const opened = wave.opened_at ? [badge("good", "open"), h("span", {}, "since ", ago(now, wave.opened_at))] : [badge("quiet", "not open yet")];
    const by = (deed, verb) => deed && h("span", {}, `${verb} by ${deed.by} `, ago(now, deed.at), deed.note ? `: ${deed.note}` : "");
    return h("p", { class: "gate" }, opened,
        h("span", {}, `each node well for ${span(wave.soak_secs)}`), h("span", {}, /^0%?$/.test(wave.failures) ? "none may fail" : `up to ${wave.failures} may fail`),
        wave.approve && !isFirst && !wave.approved && !wave.opened_at && badge("warn", "needs an approval"),
        by(wave.approved, "approved"), by(wave.promoted, "opened early"));
}

function waveSection(wave, rollout, now, context) {
    const key = `wave-${rollout.rollout}-${wave.wave}`;
    const order = (node) => ["bad", "warn", "busy", "quiet", "good"].indexOf((PLACES[node.state] ?? ["quiet"])[0]);
    const sorted = [...wave.nodes].sort((one, other) => order(one) - order(other) || (one.node < other.node ? -1 : 1));
    const [shown, rest] = limited(sorted, NODES_MAX, context.isOpen(key), () => context.open(key));
    const row = (node) => h("li", { key: node.node, class: PLACES[node.state]?.[0] === "bad" ? "attention" : null },
        h("div", { class: "who" }, nodeLink(node.node), badge(...(PLACES[node.state] ?? ["quiet", node.state]))),
        h("p", { class: "why" }, sentence(node.text), node.earlier && [" ", h("span", { class: "hint" }, "Before: ", version(node.earlier))]));
    return h("section", { key, class: "wave" },
        h("h2", {}, `Wave ${wave.wave}${wave.trailing ? ": nodes that joined late" : ""}`, h("span", { class: "number" }, String(wave.nodes.length))),
        gate(wave, rollout, now),
        wave.nodes.length ? h("ul", { class: "nodes small" }, shown.map(row)) : h("p", { class: "hint" }, "Nobody is in it."), rest);
}

const KINDS = { failed: "bad", paused: "warn", reverting: "warn", done: "good", wave_opened: "good", approved: "good", promoted: "warn" };

function log({ log: entries }, now) {
    return h("ol", { class: "events" }, [...entries].reverse().map((entry, k) => h("li", { key: `l${entries.length - k}` },
        badge(KINDS[entry.code] ?? "quiet", entry.code.replaceAll("_", " ")),
        h("span", { class: "text" }, entry.text, entry.by && h("span", { class: "hint" }, ` (${entry.by})`)), ago(now, entry.at))));
}
