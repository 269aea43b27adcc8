// Releases: which there are, who signed each, and where it runs.

import { get } from "./api.js";
import { h } from "./dom.js";
import { ago, badge, empty, facts, nodeLink, section, version } from "./parts.js";
import { count, short } from "./words.js";

const NODES_MAX = 12;

export const releasesPage = {
    title: () => "Releases",
    eachSecs: 30,
    async load() {
        const [releases, fleet] = await Promise.all([get("/v1/releases"), get("/v1/fleet")]);
        return { releases, fleet, newestEvent: fleet.newest_event };
    },
    render({ releases, fleet }) {
        const head = h("header", { key: "head" }, h("h1", { tabindex: "-1" }, "Releases"));
        if (releases.length === 0) {
            return [head, empty("No release was published yet.", "Where the owner's keys are: ",
                h("code", {}, "orangery release publish --app APP --version 1.0.0 --platform linux/arm64=DIR --manifest APP.toml"))];
        }
        const apps = [...new Set(releases.map(({ app }) => app))];
        return [head, apps.map((app) => {
            const mine = releases.filter((release) => release.app === app);
            return section(app, mine.length, h("div", { class: "cards" }, mine.map((release) => card(release, fleet))));
        })];
    },
};

function card(release, { nodes, now }) {
    const has = (which) => nodes.filter((node) => node.apps.some((app) => app.app === release.app && app[which] === release.version));
    const runs = has("current");
    const onTheWay = has("desired").filter((node) => !runs.includes(node));
    const withdrawn = { release_revoked: "revoked by the owner", below_floor: "older than the owner allows" }[release.withdrawn] ?? release.withdrawn;
    return h("article", { class: "card", key: release.id },
        h("h3", {}, version(release.version), " ", withdrawn ? badge("bad", withdrawn) : runs.length ? badge("good", `runs on ${count(runs.length, "node")}`) : badge("quiet", "runs nowhere")),
        release.notes && h("p", {}, release.notes),
        facts(
            ["Published", ago(now, release.published_at)],
            ["Platforms", release.platforms.join(", ")],
            ["Signed by", release.signed_by?.length ? release.signed_by.map((key) => h("code", { class: "key", title: key }, short(key)))
                : badge("warn", "nobody, in the newest metadata")],
            ["Runs on", runs.length ? list(runs) : null],
            ["Told, not proven", onTheWay.length ? list(onTheWay) : null],
            ["Id", h("code", { title: release.id }, short(release.id))]));
}

function list(nodes) {
    const shown = nodes.slice(0, NODES_MAX).map((node, k) => [k ? ", " : "", nodeLink(node.node)]);
    return [shown, nodes.length > NODES_MAX && ` and ${nodes.length - NODES_MAX} more`];
}
