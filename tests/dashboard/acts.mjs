// What somebody does with the dashboard, one act after the other. The name of an act is a sentence that is true when it has ended.
import assert from "node:assert/strict";
import { confirm, deed, hostile, jsQR, node, signIn, until, url, visit } from "./world.mjs";
import { looksRightEverywhere } from "./views.mjs";

/** The hostile text is a real one: where a page takes it for markup, it runs. */
async function theCanarySings(world) {
    const page = await world.browser.newPage();
    await page.setContent("<p id=place></p>");
    await page.evaluate((text) => { document.getElementById("place").innerHTML = text; }, hostile("control"));
    await page.waitForFunction(() => window.ran === "control");
    await page.close();
}

async function onlyTheRightPasswordOpens(world) {
    const page = world.page = await world.window();
    await page.goto(`${url}/#/rollouts`);
    await page.getByLabel("Password").waitFor();
    assert.equal(await page.locator("nav").count(), 0, "nothing is shown before");
    await signIn(page, "ada", "wrong horse");
    assert.match(await page.getByRole("alert").innerText(), /password/i);
    await signIn(page, "ada");
    await page.getByRole("heading", { name: "Fleet" }).waitFor();
    await page.getByText("Live").waitFor();
    assert.equal(await page.locator(".me").innerText().then((text) => text.replaceAll("\n", " ").startsWith("ada · admin")), true);
    await page.evaluate(() => { window.loaded = "once"; });
}

async function theFleetChangesBeforeOnesEyes({ page }) {
    for (const name of ["attic", "cellar", "garage"]) await node(page, name).getByText("1.0.0").waitFor();
    await deed("publish", "1.1.0", "200");
    await deed("orangery", "deploy", "greeter@1.1.0", "--to", "attic", "--yes", "--detach");
    await node(page, "attic").getByText("1.1.0").first().waitFor();
    await until(page, "attic is at rest on 1.1.0", () => {
        const text = document.querySelector('#nodes li:has(a[href="#/node/attic"])')?.innerText ?? "";
        return text.includes("1.1.0") && text.includes("at rest") && !text.includes("→");
    });
    assert.equal(await page.evaluate(() => window.loaded), "once", "the page was not loaded again");
    await page.getByLabel("Filter").fill("site=attic 1.1.0");
    await until(page, "the filter leaves attic alone", () => document.querySelectorAll("#nodes .nodes li").length === 1);
    await page.getByLabel("Filter").fill("no such thing");
    await page.getByRole("button", { name: "Show all" }).click();
    await until(page, "all are there", () => document.querySelectorAll("#nodes .nodes li").length === 4);
}

async function whatNodesSayIsText(world) {
    const { page } = world;
    await deed("villain", hostile("villain"));
    await deed("orangery", "node", "hold", "cellar", "--reason", hostile("hold"), "--for", "1h");
    await node(page, "villain").getByText(hostile("villain")).first().waitFor();
    await page.getByLabel("Filter").fill(hostile("villain"));
    await until(page, "the filter takes it as a text", () => document.querySelectorAll("#nodes .nodes li").length === 1);
    await page.getByLabel("Filter").fill("");
    await visit(page, "node/villain");
    // The label's name and value, the agent, the refusal's reason and what it saw: each as it was said.
    assert.ok(await page.getByText(hostile("villain")).count() >= 5);
    await page.getByText("What the node saw of it").click();
    await page.locator("pre").getByText(hostile("villain")).waitFor();
    await visit(page, "node/cellar");
    await page.getByText(hostile("hold")).first().waitFor();
    await visit(page, `node/${encodeURIComponent(hostile("address"))}`);
    await page.getByRole("alert").waitFor();
    await world.checkPeace(page);
    await deed("orangery", "node", "release", "cellar");
}

/** Where a rollout is. */
const status = (page, word) => page.locator(".summary .badge", { hasText: word }).waitFor();

async function aRolloutIsPausedApprovedAndTakenBackByClicks({ page }) {
    await deed("publish", "1.2.0", "200");
    await deed("orangery", "rollout", "start", "greeter@1.2.0", "--nodes", "attic", "--nodes", "cellar", "--nodes", "garage", "--canary", "attic", "--waves", "100%",
        "--soak", "1s", "--approve-between", "--note", hostile("note"), "--yes");
    await visit(page, "rollouts");
    await page.getByRole("link", { name: /^1: greeter/ }).click();
    await page.getByText("waits for approval").first().waitFor();
    await confirm(page, "Pause", ["Nobody else is told to run it", "attic"], "lunch");
    await status(page, "paused");
    await confirm(page, "Resume", ["wave 2", "cellar", "garage"]);
    await status(page, "under way");
    await confirm(page, "Approve", ["wave 2 (2 nodes: cellar and garage)", "greeter 1.2.0"], "looks fine");
    await status(page, "done");
    await page.getByText("approved by ada").waitFor();
    await page.getByText("looks fine").first().waitFor();

    await deed("publish", "1.3.0", "500");
    await deed("orangery", "rollout", "start", "greeter@1.3.0", "--nodes", "attic", "--nodes", "cellar", "--canary", "attic", "--waves", "100%", "--soak", "1s", "--yes");
    await visit(page, "rollout/2");
    await status(page, "paused");
    await page.locator(".reason", { hasText: "unhealthy" }).waitFor();
    await visit(page, "");
    await node(page, "attic").getByText("unhealthy").first().waitFor();
    assert.match(await page.locator("#nodes section").first().innerText(), /^Needs attention[\s\S]*attic/);
    await visit(page, "rollout/2");
    await confirm(page, "Revert", ["1 node is told to run again", "attic to 1.2.0"], "it answers 500");
    await status(page, "went back");
    assert.equal(await page.getByRole("button", { name: /…$/ }).count(), 0, "nothing more can be done with it");
    const shown = await deed("orangery", "rollout", "show", "2", "--json");
    assert.equal(JSON.parse(shown).log.find(({ code }) => code === "reverting").by, "ada");
}

async function aNodeIsHeldAndReleasedByClicks({ page }) {
    await visit(page, "node/garage");
    await confirm(page, "Hold", ["garage is told nothing new"], "being repaired");
    await page.getByText("being repaired").first().waitFor();
    assert.equal(JSON.parse(await deed("orangery", "node", "show", "garage", "--json")).holds[0].deed.by, "ada");
    await page.getByRole("button", { name: "Release" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Release" }).click();
    await page.getByText("None: deployments and rollouts reach it.").waitFor();
    const charts = page.locator(".chart svg");
    await charts.first().waitFor();
    assert.match(await charts.first().getAttribute("aria-label"), /^Load: \d/);
}

async function releasesSayWhoSignedThemAndWhereTheyRun({ page }) {
    await visit(page, "releases");
    const card = page.locator(".card", { hasText: "1.2.0" });
    const key = await card.locator(".key").getAttribute("title");
    assert.ok((await deed("orangery", "audit", "--json")).includes(key), "the key is the one that the audit log has");
    for (const name of ["attic", "cellar", "garage"]) await card.getByRole("link", { name }).waitFor();
    await page.locator(".card", { hasText: "1.3.0" }).getByText("runs nowhere").waitFor();
}

/** What a camera would read. */
async function scanned(world, drawing) {
    const picture = (await drawing.screenshot()).toString("base64");
    const page = await world.browser.newPage();
    const { pixels, width, height } = await page.evaluate(async (base64) => {
        const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
        const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
        canvas.drawImage(image, 0, 0);
        return { pixels: [...canvas.getImageData(0, 0, image.width, image.height).data], width: image.width, height: image.height };
    }, picture);
    await page.close();
    return jsQR(Uint8ClampedArray.from(pixels), width, height)?.data;
}

async function aBoardJoinsWithWhatIsShown(world) {
    const { page } = world;
    await visit(page, "enrol");
    await page.getByLabel("Name of the node").fill("shed");
    await page.getByRole("button", { name: "Make an invite" }).click();
    await page.getByRole("heading", { name: "Invite for shed" }).waitFor();
    const command = await page.locator(".copyable code").innerText();
    const token = await scanned(world, page.locator(".qr svg"));
    assert.equal(command, `orangery-agent join ${token}`);
    await page.getByRole("button", { name: "Copy command" }).click();
    await page.getByText("Command copied.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
    await deed("join", "shed", token);
    await visit(page, "");
    await node(page, "shed").getByText("connected").first().waitFor();
    await visit(page, "enrol");
    assert.equal(await page.locator(".qr").count(), 0, "a secret is shown once");
}

async function theAuditLogSaysWhoDidIt({ page }) {
    await visit(page, "audit");
    for (const done of ["rollout.revert", "rollout.approve", "node.hold", "invite.make"]) {
        await page.locator(".audit li", { hasText: "ada" }).filter({ hasText: done }).first().waitFor();
    }
}

async function aViewerSeesNoButtonsAndTheApiRefusesThem(world) {
    const page = await world.window();
    await signIn(page, "vera");
    await page.getByText("Live").waitFor();
    assert.deepEqual(await page.locator("nav a").allInnerTexts(), ["Fleet", "Rollouts", "Releases"]);
    for (const view of ["node/attic", "rollout/1", "rollout/2", "releases"]) {
        await visit(page, view);
        assert.deepEqual(await page.locator("main").getByRole("button").allInnerTexts(), [], view);
    }
    await page.reload();
    await page.getByText("Live").waitFor();
    for (const view of ["enrol", "audit"]) {
        await visit(page, view);
        await page.getByText(/^This page is for the role/).waitFor();
    }
    const asked = (path, body, withCsrf) => page.evaluate(async ([to, said, isWith]) => {
        const { csrf } = await (await fetch("/v1/session")).json();
        const headers = { "content-type": "application/json", ...(isWith ? { "x-orangery-csrf": csrf } : {}) };
        const answer = await fetch(to, { method: "POST", headers, body: JSON.stringify(said) });
        return [answer.status, (await answer.json()).code];
    }, [path, body, withCsrf]);
    for (const path of ["/v1/rollouts/1/revert", "/v1/nodes/attic/hold", "/v1/invites"]) {
        assert.deepEqual(await asked(path, {}, true), [403, "forbidden"], path);
    }
    assert.equal((await asked("/v1/rollouts/1/revert", {}, false))[0], 403);
    await world.checkPeace(page);
    await page.context().close();
}

async function aStreamThatIsCutOffGoesOnAfterTheLastEvent(world) {
    const { page } = world;
    await visit(page, "");
    await page.getByText("Live").waitFor();
    const streams = [];
    page.on("request", (request) => {
        if (request.url().includes("/v1/events/stream")) streams.push(Number(new URL(request.url()).searchParams.get("after")));
    });
    await deed("kill");
    await page.locator(".stream", { hasText: "Cut off since" }).waitFor();
    await deed("serve");
    await deed("orangery", "deploy", "greeter@1.1.0", "--to", "garage", "--yes", "--detach");
    await page.getByText("Live").waitFor();
    await until(page, "garage is at rest on 1.1.0", () => {
        const text = document.querySelector('#nodes li:has(a[href="#/node/garage"])')?.innerText ?? "";
        return text.includes("1.1.0") && text.includes("at rest") && !text.includes("→");
    });
    const events = (await deed("events")).trim().split("\n").map((line) => JSON.parse(line));
    const goneOn = streams.at(-1);
    assert.ok(goneOn > 0 && events.some(({ id }) => id === goneOn), `went on after ${goneOn}`);
    assert.equal(await page.evaluate(() => window.loaded), "once", "the page was not loaded again");
    assert.equal(await page.locator(".problem").count(), 0);
}

async function whoHasSignedOutSeesNothing({ page }) {
    await visit(page, "node/attic");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("You are signed out.").waitFor();
    assert.ok(!(await page.locator("body").innerText()).includes("attic"));
    await page.goBack();
    await page.getByLabel("Password").waitFor();
    assert.equal(await page.evaluate(async () => (await fetch("/v1/fleet")).status), 401);
    await page.reload();
    await page.getByLabel("Password").waitFor();
}

/** Browsers write each answer of 400 or more and each broken connection into the console, whoever has asked for it. */
const NOBODY = [/status of 401 .*\/v1\/session\)/];
const REFUSED = [/status of 403 /];
const BROKEN = [/net::ERR_/];
const NO_SUCH_NODE = [/status of 404 .*\/v1\/nodes\//, /status of 422 .*\/v1\/events/];

export const ACTS = [
    [theCanarySings, []],
    [onlyTheRightPasswordOpens, NOBODY],
    [theFleetChangesBeforeOnesEyes, []],
    [whatNodesSayIsText, NO_SUCH_NODE],
    [aRolloutIsPausedApprovedAndTakenBackByClicks, []],
    [aNodeIsHeldAndReleasedByClicks, []],
    [releasesSayWhoSignedThemAndWhereTheyRun, []],
    [aBoardJoinsWithWhatIsShown, []],
    [theAuditLogSaysWhoDidIt, []],
    [aViewerSeesNoButtonsAndTheApiRefusesThem, [...NOBODY, ...REFUSED]],
    [looksRightEverywhere, NOBODY],
    [aStreamThatIsCutOffGoesOnAfterTheLastEvent, BROKEN],
    [whoHasSignedOutSeesNothing, [...NOBODY, /status of 401 .*\/v1\/fleet\)/]],
];
