// What the acts need: deeds that the test does for them with real programs, a real browser, and everything that it complains of.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

/** Longest that anything is waited for. Only a failing act takes this long. */
export const PATIENCE_MS = 60_000;

const [settings] = process.argv.slice(2).map((text) => JSON.parse(text));
export const { url, screenshots } = settings;
const require = createRequire(`${settings.tools}/`);
const { chromium } = require("playwright-core");
export const jsQR = require("jsqr");
export const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the test do something; gives what it says. */
export async function deed(name, ...words) {
    process.stdout.write(`${JSON.stringify({ deed: name, words })}\n`);
    const { value, done } = await answers.next();
    assert.ok(!done, `the test did not do ${name}`);
    return JSON.parse(value);
}

/** A text that would run if anything took it for more than a text. */
export const hostile = (name) => `<img src=x onerror="window.ran='${name}'"><script>window.ran='${name}'</script>`;

export class World {
    static async open() {
        const browser = await chromium.launch({
            executablePath: settings.chromium, env: { ...process.env, HOME: settings.home },
            // Without its sandbox, for tests run as root; without services of its maker that would be asked for something.
            args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"],
        });
        return Object.assign(new World(), { browser, complaints: [], expected: [] });
    }

    /** A window of its own: nobody is signed in there. */
    async window({ scheme = "light", phone = false, calm = false } = {}) {
        const context = await this.browser.newContext({
            colorScheme: scheme, viewport: phone ? { width: 360, height: 780 } : { width: 1200, height: 850 },
            reducedMotion: calm ? "reduce" : "no-preference", locale: "en-GB", timezoneId: "UTC",
            permissions: ["clipboard-read", "clipboard-write"],
        });
        context.setDefaultTimeout(PATIENCE_MS);
        await context.addInitScript(() => {
            window.violations = [];
            document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
        });
        const page = await context.newPage();
        page.on("console", (message) => {
            if (["error", "warning"].includes(message.type())) this.#complain(`${message.text()} (${message.location().url})`);
        });
        page.on("pageerror", (error) => this.#complain(error.stack));
        page.on("request", (request) => {
            if (!request.url().startsWith(`${url}/`) && !request.url().startsWith("data:")) this.#complain(`a request to ${request.url()}`);
        });
        return page;
    }

    #complain(text) {
        if (!this.expected.some((pattern) => pattern.test(text))) this.complaints.push(text);
    }

    /** Nothing was complained of but what was expected, and nothing of what nodes and people wrote has run. */
    async checkPeace(page) {
        assert.deepEqual(this.complaints, []);
        assert.deepEqual(await page.evaluate(() => window.violations), []);
        assert.equal(await page.evaluate(() => window.ran), undefined, "a text of a node has run");
        const foreign = await page.evaluate(() => document.querySelectorAll("main img:not([src='/assets/icon.svg']), main script, main iframe, main style").length);
        assert.equal(foreign, 0, "a text of a node has become an element");
    }
}

/** Opens the dashboard and signs in by keyboard alone. */
export async function signIn(page, user, password = "seven plums on the windowsill") {
    await page.goto(`${url}/`);
    await page.getByLabel("User").waitFor();
    await page.keyboard.type(user);
    await page.keyboard.press("Tab");
    await page.keyboard.type(password);
    await page.keyboard.press("Enter");
}

/** Follows an address within the page. */
export async function visit(page, path) {
    await page.evaluate((hash) => { location.hash = hash; }, `#/${path}`);
    await page.locator("main h1").waitFor();
    await page.getByText("Reading …").waitFor({ state: "detached" });
}

export const node = (page, name) => page.locator(`#nodes li:has(> .who > a[href="#/node/${name}"])`);

/** Waits until something holds of the page. */
export async function until(page, what, holds, ...given) {
    try {
        await page.waitForFunction(holds, given, { timeout: PATIENCE_MS, polling: 100 });
    } catch (error) {
        const shown = await page.locator("body").innerText();
        throw new Error(`still not seen: ${what}\n${error.message}\n${shown}`);
    }
}

/** Presses one of the rollout's or node's buttons, checks what the dialog says will happen, gives a reason and does it. */
export async function confirm(page, button, says, reason) {
    await page.getByRole("button", { name: `${button} …` }).click();
    const dialog = page.getByRole("dialog");
    const text = await dialog.innerText();
    for (const part of says) assert.ok(text.includes(part), `the dialog of ${button} does not say ${part}:\n${text}`);
    if (reason) await dialog.getByLabel(/^Why/).fill(reason);
    await dialog.getByRole("button", { name: button, exact: true }).click();
    await dialog.waitFor({ state: "detached" });
}
