// Events of nodes as sentences, and as a list.

import { h } from "./dom.js";
import { ago, badge, nodeLink } from "./parts.js";
import { PHASES } from "./words.js";

const release = (reference) => reference?.version ?? "nothing";

const SAYS = {
    agent_started: (what) => ["quiet", `the agent ${what.version} started`],
    agent_stopped: () => ["quiet", "the agent was stopped"],
    phase_changed: (what, app) => ["busy", `${app} ${release(what.release)}: ${PHASES[what.phase] ?? what.phase}`],
    committed: (what, app) => ["good", what.release ? `${app} ${what.release.version} is proven and current` : `${app} is stopped, as desired`],
    refused: (what, app) => ["bad", `${app} ${what.version ?? ""} was refused: ${what.refusal?.code}: ${what.refusal?.reason}`],
    not_installed: (what, app) => ["warn", `${app} ${what.version} from ${what.source} was not installed: ${what.reason}`],
    release_revoked: (what, app) => ["warn", `the owner has revoked ${app} ${release(what.release)}, which runs here`],
    restored: (what, app) => ["warn", `${app} ${release(what.release)} runs again`],
    retrying: (what) => ["warn", `an attempt to ${what.deed} failed and will be made again: ${what.reason}`],
    message_rejected: (what) => ["warn", `a message on ${what.topic} was dropped: ${what.why}: ${what.reason}`],
    app_exited: (what, app) => ["warn", `${app} ended by itself: ${what.reason}; ${what.restarts} in a row`],
    app_health: (what, app) => (what.healthy ? ["good", `${app}: its probes hold`] : ["bad", `${app}: its probes fail: ${what.reason ?? "no reason given"}`]),
    record_recovered: (what) => ["warn", `${what.file} could not be read; ${what.used} was used instead`],
    store_rebuilt: (what) => ["warn", `the agent's store was set aside and made anew: ${what.reason}`],
    events_dropped: (what) => ["warn", `${what.count} events were dropped for want of room`],
};

/** How an event is shown, and its sentence. Codes that a newer node has are told as they are. */
export function told({ app, what }) {
    const says = SAYS[what.code];
    return says ? says(what, app ?? "an app") : ["quiet", what.code];
}

/** Events, newest first. */
export function eventList(events, now, withNode) {
    const row = ({ id, event }) => {
        const [kind, text] = told(event);
        return h("li", { key: `e${id}` }, badge(kind, event.what.code.replaceAll("_", " ")),
            h("span", { class: "text" }, withNode && [nodeLink(event.node), " "], text), ago(now, event.at));
    };
    return h("ol", { class: "events" }, [...events].reverse().map(row));
}
