// QR codes of the dashboard, read by somebody else's reader: every version, and the tokens that invites really are.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [tools, dashboard] = process.argv.slice(2);
const jsQR = createRequire(`${tools}/`)("jsqr");
const { make } = await import(pathToFileURL(`${dashboard}/qr.js`));

/** A drawing of the modules, as a camera would see it from straight ahead. */
function read(modules, scale = 3, quiet = 4) {
    const size = (modules.length + 2 * quiet) * scale;
    const pixels = new Uint8ClampedArray(4 * size * size).fill(255);
    modules.forEach((row, y) => row.forEach((dark, x) => {
        if (!dark) return;
        for (let dy = 0; dy < scale; dy += 1) {
            for (let dx = 0; dx < scale; dx += 1) pixels.fill(0, ...[0, 3].map((end) => 4 * (((y + quiet) * scale + dy) * size + (x + quiet) * scale + dx) + end));
        }
    }));
    return jsQR(pixels, size, size, { inversionAttempts: "dontInvert" });
}

/** The most bytes of each version at level L (ISO/IEC 18004, table 7). */
const MOST = [17, 32, 53, 78, 106, 134, 154, 192, 230, 271, 321, 367, 425, 458, 520, 586, 644, 718, 792, 858,
    929, 1003, 1091, 1171, 1273, 1367, 1465, 1528, 1628, 1732, 1840, 1952, 2068, 2188, 2303, 2431, 2563, 2699, 2809, 2953];
/** This reader looks for a mark of version 23 at 74, where the standard has it at 78. */
const MISREAD = 23;

for (const [k, most] of MOST.entries()) {
    for (const length of [most, most - (k < 20 ? 7 : 0)]) {
        const text = Array.from({ length }, (_, place) => String.fromCharCode(33 + ((place * 7919 + k * 31) % 94))).join("");
        const modules = make(text);
        assert.equal(modules.length, 4 * (k + 1) + 17, `${length} bytes`);
        if (k + 1 !== MISREAD) assert.equal(read(modules)?.data, text, `${length} bytes`);
    }
}
assert.equal(read(make("größer ✓")).data, "größer ✓");
assert.equal(make("x".repeat(2953)).length, 177);
assert.throws(() => make("x".repeat(2954)), RangeError);
console.log("QR codes of 39 versions were read");
