// Every page, in light and dark, on a desk and on a phone: nothing grave for axe, nothing wider than the window; pictures if asked for.
import assert from "node:assert/strict";
import { axe, screenshots, signIn, visit } from "./world.mjs";

const VIEWS = ["", "node/attic", "node/villain", "rollouts", "rollout/1", "rollout/2", "releases", "enrol", "audit", "nothing-here"];
const WINDOWS = [{ scheme: "light" }, { scheme: "dark" }, { scheme: "light", phone: true }, { scheme: "dark", phone: true, calm: true }];

async function check(page, name) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const told = grave.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join("\n")}`);
    assert.deepEqual(told, [], name);
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(beyond <= 0, `${name} is ${beyond} pixels wider than the window`);
    if (screenshots) await page.screenshot({ path: `${screenshots}/${name.replaceAll(/[ /]/g, "-")}.png`, fullPage: true });
}

export async function looksRightEverywhere(world) {
    for (const window of WINDOWS) {
        const name = `${window.scheme} ${window.phone ? "phone" : "desk"}`;
        const page = await world.window(window);
        await page.goto("about:blank");
        await signIn(page, "ada", "no");
        await page.getByRole("alert").waitFor();
        await check(page, `${name} sign in`);
        await signIn(page, "ada");
        await page.getByText("Live").waitFor();
        for (const view of VIEWS) {
            await visit(page, view);
            await check(page, `${name} ${view || "fleet"}`);
        }
        await visit(page, "enrol");
        await page.getByRole("button", { name: "Make an invite" }).click();
        await page.locator(".qr svg").waitFor();
        await check(page, `${name} invite`);
        await visit(page, "node/attic");
        await page.getByRole("button", { name: "Hold …" }).click();
        await page.getByRole("dialog").waitFor();
        await check(page, `${name} dialog`);
        await page.keyboard.press("Escape");
        await page.getByRole("dialog").waitFor({ state: "detached" });
        if (window.calm) assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".message")).transitionDuration), "0s");
        await world.checkPeace(page);
        await page.context().close();
    }
}
