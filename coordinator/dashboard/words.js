// How things are told to people.

/** "1 node", "3 nodes" */
export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** "in 3 hours", "5 minutes ago": one unit, nobody needs two here. */
export function distance(now, then) {
    const secs = Math.abs(now - then);
    if (secs < 2) return "just now";
    const text = span(secs);
    return then > now ? `in ${text}` : `${text} ago`;
}

/** "90 seconds", "2 hours" */
export function span(secs) {
    const [size, unit] = [[172800, "day", 86400], [7200, "hour", 3600], [120, "minute", 60]].find(([from]) => secs >= from)
        ?.slice(1).reverse() ?? [1, "second"];
    return count(Math.floor(secs / size), unit);
}

const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

/** The date and time where the reader is. */
export const moment = (secs) => WHEN.format(new Date(secs * 1000));
/** The time of the day where the reader is. */
export const clock = (secs) => TIME.format(new Date(secs * 1000));
export const iso = (secs) => new Date(secs * 1000).toISOString();
export const nowSecs = () => Math.floor(Date.now() / 1000);

/** A digest or key id, cut to what people compare at a glance. */
export const short = (digest) => digest.slice(0, 12);

/** What each phase of a deployment is. */
export const PHASES = {
    settled: "at rest",
    fetching: "downloading",
    activating: "starting on trial",
    probing: "on trial",
    restoring: "going back",
};

/** What each state of a rollout is, and how it is shown. */
export const STATUSES = {
    running: ["busy", "under way"],
    paused: ["warn", "paused"],
    reverting: ["busy", "going back"],
    done: ["good", "done"],
    reverted: ["quiet", "went back"],
    superseded: ["quiet", "superseded"],
};

/** Where a node is in a rollout: how it is shown, and in few words. */
export const PLACES = {
    wave_ahead: ["quiet", "waits for its wave"],
    approval: ["warn", "waits for approval"],
    nobody_proved: ["warn", "nobody has proven it"],
    window: ["quiet", "waits for its window"],
    away: ["quiet", "not connected"],
    paused: ["warn", "paused"],
    reverting: ["busy", "going back"],
    held: ["quiet", "held"],
    unfit: ["quiet", "left out"],
    revoked: ["quiet", "revoked"],
    not_taken_in: ["busy", "told"],
    in_progress: ["busy", "at work"],
    soaking: ["busy", "soaking"],
    comparing: ["busy", "compared with before"],
    inconclusive: ["warn", "the comparison shows nothing"],
    overdue: ["warn", "overdue"],
    failed: ["bad", "failed"],
    soaked: ["good", "proven"],
    going_back: ["busy", "going back"],
    back: ["quiet", "is back"],
    superseded: ["quiet", "another rollout"],
    told_otherwise: ["quiet", "told otherwise"],
    not_reached: ["warn", "not reached"],
    not_told: ["quiet", "not told"],
};

/** A list in a sentence: "a, b and 3 more". */
export function named(names, most = 5) {
    if (names.length > most) return `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
    return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
