// QR codes (ISO/IEC 18004): a text as bytes, error correction level L. `make` gives the modules; true is dark.

/** For each version from 1 on: correction bytes in a block, and blocks. */
const CORRECTION = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28,
    28, 28, 30, 30, 26, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30];
const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8,
    8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18, 19, 19, 20, 21, 22, 24, 25];

const MASKS = [
    (x, y) => (x + y) % 2, (_, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
    (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2, (x, y) => ((x * y) % 2) + ((x * y) % 3),
    (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** Bytes in a symbol of a version, corrections among them. */
function bytesIn(version) {
    let modules = (16 * version + 128) * version + 64;
    if (version >= 2) {
        const marks = Math.floor(version / 7) + 2;
        modules -= (25 * marks - 10) * marks - 55;
        if (version >= 7) modules -= 36;
    }
    return Math.floor(modules / 8);
}

const dataIn = (version) => bytesIn(version) - CORRECTION[version - 1] * BLOCKS[version - 1];
const countBits = (version) => (version < 10 ? 8 : 16);

/** The modules of a text, row by row. Throws if it has more than 2953 bytes. */
export function make(text) {
    const bytes = new TextEncoder().encode(text);
    let version = 1;
    while (version <= 40 && dataIn(version) * 8 < 4 + countBits(version) + bytes.length * 8) version += 1;
    if (version > 40) throw new RangeError(`${bytes.length} bytes are too many for a QR code`);
    const stream = interleaved(padded(bytes, version), version);
    const plain = frame(version);
    place(plain, stream);
    let best = null;
    for (let mask = 0; mask < 8; mask += 1) {
        const modules = masked(plain, mask);
        const penalty = penaltyOf(modules);
        if (best === null || penalty < best.penalty) best = { modules, penalty };
    }
    return best.modules.map((row) => row.map(Boolean));
}

/** Mode, count, bytes, end and padding. */
function padded(bytes, version) {
    const bits = [];
    const push = (value, length) => {
        for (let k = length - 1; k >= 0; k -= 1) bits.push((value >>> k) & 1);
    };
    push(4, 4);
    push(bytes.length, countBits(version));
    bytes.forEach((byte) => push(byte, 8));
    const room = dataIn(version) * 8;
    push(0, Math.min(4, room - bits.length));
    push(0, (8 - (bits.length % 8)) % 8);
    for (let pad = 0xec; bits.length < room; pad ^= 0xfd) push(pad, 8);
    return Array.from({ length: bits.length / 8 }, (_, k) => bits.slice(8 * k, 8 * k + 8).reduce((byte, bit) => 2 * byte + bit, 0));
}

/** Product in the field of 256 elements with the polynomial 0x11d. */
function times(one, other) {
    let product = 0;
    for (let k = 7; k >= 0; k -= 1) product = (product << 1) ^ ((product >>> 7) * 0x11d) ^ (((other >>> k) & 1) * one);
    return product;
}

function divisor(degree) {
    const result = [...Array(degree - 1).fill(0), 1];
    let root = 1;
    for (let round = 0; round < degree; round += 1) {
        for (let k = 0; k < degree; k += 1) result[k] = times(result[k], root) ^ (result[k + 1] ?? 0);
        root = times(root, 2);
    }
    return result;
}

function remainder(bytes, by) {
    const result = Array(by.length).fill(0);
    for (const byte of bytes) {
        const factor = byte ^ result.shift();
        result.push(0);
        by.forEach((coefficient, k) => { result[k] ^= times(coefficient, factor); });
    }
    return result;
}

/** The blocks with their corrections, byte by byte in turn. Later blocks may be one byte longer. */
function interleaved(bytes, version) {
    const blocks = BLOCKS[version - 1];
    const by = divisor(CORRECTION[version - 1]);
    const least = Math.floor(bytes.length / blocks);
    const longer = bytes.length % blocks;
    const parts = [];
    let begin = 0;
    for (let k = 0; k < blocks; k += 1) {
        const length = least + (k >= blocks - longer ? 1 : 0);
        parts.push(bytes.slice(begin, begin + length));
        begin += length;
    }
    const turn = (lists) => Array.from({ length: Math.max(...lists.map((list) => list.length)) }, (_, k) => lists.map((list) => list[k]))
        .flat().filter((byte) => byte !== undefined);
    return [...turn(parts), ...turn(parts.map((part) => remainder(part, by)))];
}

/** All that is not data: null where data goes. */
function frame(version) {
    const size = 4 * version + 17;
    const modules = Array.from({ length: size }, () => Array(size).fill(null));
    const set = (x, y, dark) => {
        if (x >= 0 && y >= 0 && x < size && y < size) modules[y][x] = dark ? 1 : 0;
    };
    for (let k = 0; k < size; k += 1) {
        set(6, k, k % 2 === 0);
        set(k, 6, k % 2 === 0);
    }
    const square = (x, y, reach, isDark) => {
        for (let dy = -reach; dy <= reach; dy += 1) for (let dx = -reach; dx <= reach; dx += 1) set(x + dx, y + dy, isDark(Math.max(Math.abs(dx), Math.abs(dy))));
    };
    for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, (ring) => ring !== 2 && ring !== 4);
    const marks = alignment(version, size);
    const last = marks.length - 1;
    marks.forEach((x, i) => marks.forEach((y, j) => {
        if (!((i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0))) square(x, y, 2, (ring) => ring !== 1);
    }));
    if (version >= 7) writeVersion(set, version, size);
    writeFormat(set, 0, size);
    return modules;
}

function alignment(version, size) {
    if (version === 1) return [];
    const marks = Math.floor(version / 7) + 2;
    const step = version === 32 ? 26 : Math.ceil((4 * version + 4) / (2 * marks - 2)) * 2;
    return [6, ...Array.from({ length: marks - 1 }, (_, k) => size - 7 - k * step).reverse()];
}

function writeVersion(set, version, size) {
    let rest = version;
    for (let k = 0; k < 12; k += 1) rest = (rest << 1) ^ ((rest >>> 11) * 0x1f25);
    const bits = (version << 12) | rest;
    for (let k = 0; k < 18; k += 1) {
        const [far, near] = [size - 11 + (k % 3), Math.floor(k / 3)];
        set(far, near, (bits >>> k) & 1);
        set(near, far, (bits >>> k) & 1);
    }
}

/** Level L and the mask, twice, and the one module that is always dark. */
function writeFormat(set, mask, size) {
    const what = (1 << 3) | mask;
    let rest = what;
    for (let k = 0; k < 10; k += 1) rest = (rest << 1) ^ ((rest >>> 9) * 0x537);
    const bits = ((what << 10) | rest) ^ 0x5412;
    const bit = (k) => (bits >>> k) & 1;
    for (let k = 0; k < 6; k += 1) set(8, k, bit(k));
    set(8, 7, bit(6));
    set(8, 8, bit(7));
    set(7, 8, bit(8));
    for (let k = 9; k < 15; k += 1) set(14 - k, 8, bit(k));
    for (let k = 0; k < 8; k += 1) set(size - 1 - k, 8, bit(k));
    for (let k = 8; k < 15; k += 1) set(8, size - 15 + k, bit(k));
    set(8, size - 8, 1);
}

/** Writes data in two columns at a time, up and down, from the right; 2 and 3 are data that is light and dark. */
function place(modules, bytes) {
    const size = modules.length;
    let k = 0;
    for (let right = size - 1; right >= 1; right -= 2) {
        if (right === 6) right = 5;
        const upward = ((right + 1) & 2) === 0;
        for (let step = 0; step < size; step += 1) {
            const y = upward ? size - 1 - step : step;
            for (const x of [right, right - 1]) {
                if (modules[y][x] !== null) continue;
                modules[y][x] = 2 + (((bytes[k >>> 3] ?? 0) >>> (7 - (k & 7))) & 1);
                k += 1;
            }
        }
    }
}

function masked(plain, mask) {
    const modules = plain.map((row, y) => row.map((module, x) => (module < 2 ? module : (module & 1) ^ (MASKS[mask](x, y) === 0 ? 1 : 0))));
    writeFormat((x, y, dark) => { modules[y][x] = dark ? 1 : 0; }, mask, modules.length);
    return modules;
}

/** How hard it is to read: runs, blocks, what looks like a corner, and too much of one kind. */
function penaltyOf(modules) {
    const size = modules.length;
    const columns = modules.map((_, x) => modules.map((row) => row[x]));
    let penalty = 0;
    for (const line of [...modules, ...columns]) {
        const text = line.join("");
        for (const run of text.match(/0{5,}|1{5,}/g) ?? []) penalty += run.length - 2;
        for (let k = 0; k + 11 <= size; k += 1) {
            const part = text.slice(k, k + 11);
            if (part === "10111010000" || part === "00001011101") penalty += 40;
        }
    }
    for (let y = 1; y < size; y += 1) {
        for (let x = 1; x < size; x += 1) {
            const four = modules[y][x] + modules[y - 1][x] + modules[y][x - 1] + modules[y - 1][x - 1];
            if (four % 4 === 0) penalty += 3;
        }
    }
    const dark = modules.flat().reduce((sum, module) => sum + module, 0);
    return penalty + Math.floor(Math.abs((dark * 20) / (size * size) - 10)) * 10;
}
