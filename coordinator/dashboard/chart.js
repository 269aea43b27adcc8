// A small chart of one value over the last day, drawn without colours that mean anything.

import { h, svg } from "./dom.js";
import { clock } from "./words.js";

const WIDTH = 280;
const HEIGHT = 72;
const SHORTEST_SECS = 600;

/** `points`: [{ at, value }], oldest first, each for `pointSecs`; a missing value is a gap. `top`: the least that the scale reaches to. */
export function chart({ label, points, pointSecs, now, top, write }) {
    const known = points.filter(({ value }) => value !== null && value !== undefined);
    if (known.length === 0) {
        return h("figure", { class: "chart", key: label }, h("figcaption", {}, h("span", {}, label)),
            h("p", { class: "hint" }, "The node does not say."));
    }
    const begin = Math.min(known[0].at, now - SHORTEST_SECS);
    const highest = known.reduce((worst, point) => (point.value > worst.value ? point : worst));
    const scale = Math.max(top, highest.value);
    const x = (at) => round(((at - begin) / Math.max(now - begin, 1)) * WIDTH);
    const y = (value) => round(HEIGHT - (Math.max(value, 0) / scale) * (HEIGHT - 4) - 2);
    const runs = unbroken(known, pointSecs);
    const line = (run) => run.map(({ at, value }) => `${x(at)} ${y(value)}`).join("L");
    const right = (run) => x(Math.min(run.at(-1).at + pointSecs, now));
    const path = (run) => `M${line(run)}H${right(run)}`;
    const latest = known.at(-1);
    const peak = `highest ${write(highest.value)} at ${clock(highest.at)}`;
    const words = `${label}: ${write(latest.value)} at last, ${peak}`;
    return h("figure", { class: "chart", key: label },
        h("figcaption", {}, h("span", {}, label), h("strong", {}, write(latest.value))),
        h("p", { class: "scale" }, h("span", {}, peak)),
        svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words, preserveAspectRatio: "none" },
            svg("path", { class: "base", d: `M0 ${HEIGHT - 1}H${WIDTH}` }),
            runs.map((run) => svg("path", { class: "area", d: `${path(run)}V${HEIGHT}H${x(run[0].at)}Z` })),
            runs.map((run) => svg("path", { class: "line", d: path(run) }))),
        h("p", { class: "scale" }, h("span", {}, clock(begin)), h("span", {}, "now")));
}

const round = (number) => Math.round(number * 10) / 10;

/** Points that follow one another without a gap of more than two. */
function unbroken(points, pointSecs) {
    const runs = [];
    for (const point of points) {
        const run = runs.at(-1);
        if (run && point.at - run.at(-1).at <= Math.max(3 * pointSecs, 180)) run.push(point);
        else runs.push([point]);
    }
    return runs;
}
