// Puts the pages together: who is signed in, which page is shown, and when it is read again.

import { signOut, whenSignedOut, whoAmI } from "./api.js";
import { auditPage } from "./audit.js";
import { h, update } from "./dom.js";
import { enrolPage } from "./enrol.js";
import { fleetPage } from "./fleet.js";
import { Live } from "./live.js";
import { nodePage } from "./node.js";
import { empty, problem } from "./parts.js";
import { releasesPage } from "./releases.js";
import { rolloutPage } from "./rollout.js";
import { rolloutsPage } from "./rollouts.js";
import { signInPage } from "./signin.js";
import { clock, nowSecs } from "./words.js";

const ROLES = ["viewer", "operator", "admin"];
/** Events that come together are one reason to read again. */
const GATHER_MS = 250;
/** A page is read again at the earliest after this many times what the reading took: a large fleet is not asked all the time. */
const PACE = 10;
const MESSAGE_MS = 6_000;

const PAGES = { "": fleetPage, node: nodePage, rollouts: rolloutsPage, rollout: rolloutPage, releases: releasesPage, enrol: enrolPage, audit: auditPage };
const NAVIGATION = [["", "Fleet"], ["rollouts", "Rollouts"], ["releases", "Releases"], ["enrol", "Enrol"], ["audit", "Audit"]];

let session = null;
/** What is shown: { page, words, key, data, readAt, error }. */
let shown = null;
let timer = null;
/** Counts the readings: the answer of one that was overtaken is dropped. */
let reading = 0;
let stream = { connected: null };
const opened = new Set();
const can = (role) => ROLES.indexOf(session?.role) >= ROLES.indexOf(role);

const query = {
    get: (name) => new URLSearchParams(location.hash.split("?")[1] ?? "").get(name) ?? "",
    set(name, value) {
        const [path] = location.hash.split("?");
        history.replaceState(null, "", value ? `${path || "#/"}?${new URLSearchParams({ [name]: value })}` : path || "#/");
    },
};

const context = {
    can, query, say,
    render: draw,
    refresh: () => read(),
    isOpen: (key) => opened.has(key),
    open(key) {
        opened.add(key);
        draw();
    },
    done(text) {
        say(text);
        return read();
    },
};

const live = new Live({
    heard: () => again(GATHER_MS),
    changed(state) {
        const isBack = state.connected && stream.connected === false;
        // A further failure is not a further beginning.
        stream = state.connected === false && stream.connected === false ? stream : state;
        drawStream();
        if (isBack) again(0);
    },
    async check() {
        try {
            if (await whoAmI()) return true;
            leave("Your session has ended. Sign in again to go on.");
        } catch {
            // It does not answer; it is asked again.
        }
        return false;
    },
});

const message = h("p", { class: "message", role: "status" });
const main = h("main", { id: "main" });
const navigation = h("nav", { "aria-label": "Pages" });
const streamState = h("p", { class: "stream", role: "status" });
const bar = h("div", { class: "bar" });
const skip = h("button", { type: "button", class: "skip", onclick: () => main.querySelector("h1")?.focus() }, "Skip to the page");

function say(text) {
    update(message, text);
    message.classList.add("said");
    setTimeout(() => {
        if (message.textContent === text) message.classList.remove("said");
    }, MESSAGE_MS);
}

/** The page that the address names: "#/node/attic" is the page of nodes with ["attic"]. */
function addressed() {
    const path = location.hash.split("?")[0].replace(/^#\/?/, "");
    const [name, ...words] = path.split("/").map((word) => {
        try {
            return decodeURIComponent(word);
        } catch {
            return word;
        }
    });
    return { name, words, page: PAGES[name] ?? null, key: path };
}

function visit() {
    if (!session) return;
    const { page, words, key } = addressed();
    if (shown && shown.key === key) return draw();
    shown = { page, words, key, data: null, error: null, readAt: null };
    const title = page ? page.title(words) : "Not found";
    document.title = `${title} · Orangery`;
    drawBar();
    update(main, h("p", { class: "hint", key: "wait" }, "Reading …"));
    scrollTo(0, 0);
    read().then(() => main.querySelector("h1")?.focus({ preventScroll: true }));
}

async function read() {
    clearTimeout(timer);
    const mine = shown;
    const { page } = mine ?? {};
    const turn = ++reading;
    if (!page || (page.least && !can(page.least))) return draw();
    const begun = performance.now();
    try {
        const data = await page.load(mine.words, context);
        if (turn !== reading || mine !== shown) return;
        Object.assign(mine, { data, error: null, readAt: nowSecs() });
        live.begin(data.newestEvent);
    } catch (error) {
        if (turn !== reading || mine !== shown || !session) return;
        mine.error = error;
    }
    mine.pace = (performance.now() - begun) * PACE;
    draw();
    if (page.eachSecs) timer = setTimeout(read, Math.max(page.eachSecs * 1_000, mine.pace));
}

/** Reads the page again soon, because something has happened. */
function again(afterMs) {
    const page = shown?.page;
    if (!session || !page?.eachSecs || shown.waiting) return;
    const mine = shown;
    mine.waiting = true;
    setTimeout(() => {
        mine.waiting = false;
        if (mine === shown) read();
    }, Math.max(afterMs, mine.pace ?? 0));
}

function draw() {
    if (!shown) return;
    const { page, data, error, readAt, words } = shown;
    const notHere = [h("h1", { tabindex: "-1" }, "There is no such page"), empty("The address is wrong, or it is of another version.", h("a", { href: "#/" }, "To the fleet"))];
    if (!page) return update(main, ...notHere);
    if (page.least && !can(page.least)) {
        return update(main, h("h1", { tabindex: "-1" }, page.title(words)), empty(`This page is for the role ${page.least}.`, `You are ${session.user}, with the role ${session.role}.`));
    }
    const trouble = error && h("div", { key: "trouble" }, problem(error, data ? readAt : null));
    if (!data) return update(main, error ? [h("h1", { tabindex: "-1" }, page.title(words)), trouble] : h("p", { class: "hint", key: "wait" }, "Reading …"));
    if (page.eachSecs) return update(main, trouble, ...page.render(data, context).flat(Infinity));
    if (shown.drawn) return;
    shown.drawn = true;
    main.replaceChildren(...page.render(data, context));
}

function drawBar() {
    const here = addressed().name;
    const isHere = (name) => name === here || (name === "" && here === "node") || (name === "rollouts" && here === "rollout");
    const mayVisit = ([name]) => !PAGES[name].least || can(PAGES[name].least);
    update(navigation, NAVIGATION.filter(mayVisit).map(([name, text]) => h("a", { href: `#/${name}`, "aria-current": isHere(name) ? "page" : null }, text)));
    update(bar, h("a", { class: "brand", href: "#/" }, h("img", { src: "/assets/icon.svg", alt: "", width: 24, height: 24 }), h("span", {}, "Orangery")), navigation, streamState,
        h("div", { class: "me" }, h("span", {}, h("strong", {}, session.user), ` · ${session.role}`),
            h("button", { type: "button", class: "plain", onclick: goodbye }, "Sign out")));
}

function drawStream() {
    const { connected, since } = stream;
    streamState.className = `stream ${connected ? "good" : connected === false ? "bad" : ""}`;
    const mark = (text) => h("span", { class: "mark", "aria-hidden": "true" }, text);
    update(streamState, connected ? [mark("●"), "Live"] : connected === false ? [mark("○"), `Cut off since ${clock(since)}, trying again`] : "");
}

async function goodbye() {
    try {
        await signOut();
        leave("You are signed out.");
    } catch (error) {
        if (error.status === 401) leave("You are signed out.");
        else say(`${error.message} You are still signed in.`);
    }
}

/** Nobody is signed in any more: what was shown is gone, too. */
function leave(reason) {
    session = null;
    shown = null;
    reading += 1;
    clearTimeout(timer);
    live.end();
    opened.clear();
    document.querySelectorAll("dialog").forEach((dialog) => dialog.remove());
    document.title = "Orangery";
    document.body.replaceChildren(signInPage(reason, enter));
    document.querySelector("#field-user").focus();
}

function enter(whose) {
    session = whose;
    document.body.replaceChildren(skip, h("header", { class: "top" }, bar), main, message);
    visit();
}

async function begin() {
    try {
        const whose = await whoAmI();
        if (whose) enter(whose);
        else leave(null);
    } catch (error) {
        document.body.replaceChildren(h("main", { class: "alone" }, h("h1", {}, "Orangery"), problem(error),
            h("button", { type: "button", class: "primary", onclick: begin }, "Try again")));
    }
}

whenSignedOut(() => {
    if (session) leave("Your session has ended. Sign in again to go on.");
});
addEventListener("hashchange", visit);
begin();
