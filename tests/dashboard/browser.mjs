// Takes a browser through the dashboard of a real coordinator. tests/tests/dashboard starts it, and does what it asks for.
import { ACTS } from "./acts.mjs";
import { World } from "./world.mjs";

const words = (name) => name.replaceAll(/([A-Z])/g, " $1").toLowerCase();

const world = await World.open();
let name = "";
try {
    for (const [act, expected] of ACTS) {
        name = words(act.name);
        const begun = Date.now();
        world.expected = expected;
        await act(world);
        if (world.page) await world.checkPeace(world.page);
        console.log(`ok, ${((Date.now() - begun) / 1000).toFixed(1)} s: ${name}`);
    }
} catch (error) {
    console.log(`not so: ${name}\n${error.stack}\n${world.complaints.join("\n")}`);
    process.exitCode = 1;
}
await world.browser.close();
process.exit();
