// Enrolment: an invite for a board, as a command and as a QR code.

import { post } from "./api.js";
import { field } from "./confirm.js";
import { h, svg, update } from "./dom.js";
import { copyable, problem } from "./parts.js";
import { make } from "./qr.js";
import { count, distance, moment, nowSecs } from "./words.js";

const LASTS = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "1 week"], ["2592000", "30 days"]];

export const enrolPage = {
    title: () => "Enrol",
    least: "operator",
    load: async () => ({}),
    /** Once only: an update would take away what somebody writes, or the one showing of a secret. */
    render(_, context) {
        const answer = h("div", { "aria-live": "polite" });
        const trouble = h("div", {});
        const button = h("button", { type: "submit", class: "primary" }, "Make an invite");
        async function submit(event) {
            event.preventDefault();
            button.disabled = true;
            update(trouble);
            const said = new FormData(form);
            const name = said.get("name").trim();
            try {
                const invite = await post("/v1/invites", { name: name || null, expires_secs: Number(said.get("lasts")), uses: name ? 1 : Number(said.get("uses")) });
                answer.replaceChildren(...invited(invite, name, Number(said.get("uses")), context));
                answer.querySelector("h2").focus();
            } catch (error) {
                update(trouble, problem(error));
            }
            button.disabled = false;
        }
        const form = h("form", { class: "panel", onsubmit: submit },
            field({ name: "name", label: "Name of the node", maxlength: 63, autocapitalize: "none", spellcheck: "false",
                pattern: "[a-z0-9]([a-z0-9\\-]*[a-z0-9])?", title: "lower-case letters, digits and hyphens",
                hint: "Left empty, the board's own host name is taken, and several boards may use the invite." }),
            field({ name: "uses", label: "For how many boards, without a name", type: "number", min: 1, max: 1000, value: 1, needed: true }),
            field({ name: "lasts", label: "How long it lasts", options: LASTS }),
            trouble, button);
        return [h("header", { key: "head" }, h("h1", { tabindex: "-1" }, "Enrol a board")),
            h("p", {}, "An invite lets a board join the fleet. Whoever has its token can enrol, so bring it to the board and nowhere else."), form, answer];
    },
};

/** The token, as `orangery node invite` makes it: see wire/src/token.rs. */
function token({ url, ca, root, secret }) {
    const bytes = new TextEncoder().encode(JSON.stringify({ url, ca, root, secret }));
    const base64 = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    return `orangery1.${base64}`;
}

function invited(invite, name, uses, context) {
    const text = token(invite);
    const once = name || uses === 1 ? "one board" : count(uses, "board");
    return [
        h("section", { class: "panel invite" },
            h("h2", { tabindex: "-1" }, name ? `Invite for ${name}` : "Invite"),
            h("p", {}, `For ${once}, until ${moment(invite.expires_at)} (${distance(nowSecs(), invite.expires_at)}). It is shown this once.`),
            h("h3", {}, "On the board"), copyable(`orangery-agent join ${text}`, "Command", context.say),
            h("p", { class: "hint" }, "The board must reach ", h("code", {}, invite.url), ". A card that is not in a board yet can carry the token instead: see the manual on boards."),
            h("h3", {}, "The token as a QR code"), code(text),
            h("details", {}, h("summary", {}, "Whose releases will the board take?"),
                h("p", {}, "Those of the owner whose first trust root has this fingerprint, as this coordinator says:"),
                h("p", {}, h("code", { class: "wrap" }, invite.root)),
                h("p", {}, "A coordinator that somebody has broken into could name another owner. Where the owner's keys are, ",
                    h("code", {}, "sha256sum owner/1.root.json"), " prints the same fingerprint; ", h("code", {}, "orangery node invite"),
                    " there makes invites that need not trust the coordinator for it."))),
    ];
}

/** Dark on white whatever the colours of the page: readers expect that. */
function code(text) {
    const modules = make(text);
    const size = modules.length + 8;
    const dark = modules.flatMap((row, y) => row.map((isDark, x) => (isDark ? `M${x + 4} ${y + 4}h1v1h-1z` : ""))).join("");
    return h("div", { class: "qr" }, svg("svg", { viewBox: `0 0 ${size} ${size}`, width: 4 * size, height: 4 * size, role: "img", "aria-label": "The invite's token as a QR code", "shape-rendering": "crispEdges" },
        svg("rect", { width: size, height: size, fill: "#fff" }), svg("path", { d: dark, fill: "#000" })));
}
