// All rollouts.

import { get } from "./api.js";
import { h } from "./dom.js";
import { ago, badge, empty, rolloutLink, section, sentence, version } from "./parts.js";
import { STATUSES, count, nowSecs } from "./words.js";

const UNDER_WAY = new Set(["running", "paused", "reverting"]);

export const rolloutsPage = {
    title: () => "Rollouts",
    eachSecs: 10,
    load: async () => ({ rollouts: await get("/v1/rollouts") }),
    render({ rollouts }) {
        const now = nowSecs();
        const head = h("header", { key: "head" }, h("h1", { tabindex: "-1" }, "Rollouts"));
        if (rollouts.length === 0) {
            return [head, empty("No release was rolled out yet.", "In a terminal: ",
                h("code", {}, "orangery rollout start APP@VERSION --nodes all --canary NODE --waves 10%,100%"))];
        }
        const list = (title, members) => members.length > 0 && section(title, members.length,
            h("ul", { class: "nodes" }, members.map((rollout) => row(rollout, now))));
        return [head, list("Under way", rollouts.filter(({ status }) => UNDER_WAY.has(status))),
            list("Ended", rollouts.filter(({ status }) => !UNDER_WAY.has(status)))];
    },
};

export const statusBadge = (status) => badge(...(STATUSES[status] ?? ["quiet", status]));

/** How many nodes have proven it, of how many. */
export function progress(rollout) {
    const nodes = rollout.waves.flatMap((wave) => wave.nodes);
    const proven = nodes.filter(({ state }) => state === "soaked").length;
    return h("span", { class: "progress" },
        h("progress", { max: Math.max(nodes.length, 1), value: proven, "aria-label": `Proven on ${proven} of ${count(nodes.length, "node")}` }),
        h("span", {}, `proven on ${proven} of ${nodes.length}`));
}

function row(rollout, now) {
    return h("li", { key: rollout.rollout, class: rollout.status === "paused" ? "attention" : null },
        h("div", { class: "who" }, rolloutLink(rollout.rollout, [`${rollout.rollout}: ${rollout.app} `, version(rollout.version)]), statusBadge(rollout.status)),
        h("div", { class: "apps" }, progress(rollout)),
        h("p", { class: "why" }, sentence(rollout.reason)),
        h("p", { class: "hint" }, `begun by ${rollout.begun.by} `, ago(now, rollout.begun.at), rollout.begun.note ? `: ${rollout.begun.note}` : ""));
}
